"""What injection puts into a pod runs, and serves what it puts into the containers."""

from pathlib import Path

import boto3
import pytest

from keyturn.core.pods.injection import SidecarConfig, inject_sidecar
from tests.integration.sidecar.conftest import keys_of, mount
from tests.support.pods import pod
from tests.support.sidecar_process import running_sidecar


def test_a_container_finds_the_sidecar(tmp_path: Path, sdk: pytest.MonkeyPatch) -> None:
    spec = inject_sidecar(pod(), SidecarConfig("keyturn:1"))["spec"]
    sidecar, app = spec["initContainers"][0], spec["containers"][0]
    places = {it["mountPath"]: tmp_path / it["name"] for it in sidecar["volumeMounts"]}
    command, *flags = sidecar["args"]
    for path, directory in places.items():
        directory.mkdir()
        flags = [flag.replace(path, str(directory)) for flag in flags]
    mount(tmp_path / "keyturn-secret", 1)
    env = {it["name"]: it["value"] for it in app["env"]}
    [read] = app["volumeMounts"]
    with running_sidecar(tmp_path, *flags) as running:
        # Ports of this machine that are free, instead of the pod's own.
        port = next(flag for flag in flags if flag.startswith("--listen=")).removeprefix("--listen=")
        uri = env["AWS_CONTAINER_CREDENTIALS_FULL_URI"].replace(port, running.credentials)
        token = env["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]
        sdk.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri)
        sdk.setenv(
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            token.replace(read["mountPath"], str(tmp_path / read["name"])),
        )

        assert keys_of(boto3.Session())[0] == "ASIA1"
        assert running.get(sidecar["startupProbe"]["httpGet"]["path"])[0] == 200
        assert running.get(sidecar["livenessProbe"]["httpGet"]["path"])[0] == 200
    assert command == "sidecar"
