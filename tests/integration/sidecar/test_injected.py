"""The sidecar that injection adds to a pod starts and serves the pod's other containers."""

from pathlib import Path

import boto3
import pytest

from keyturn.core.pods.injection import SidecarConfig, inject_sidecar
from tests.support.boto3_credentials import current_credentials
from tests.support.kubelet_mount import mount_credentials
from tests.support.pods import pod
from tests.support.sidecar_process import running_sidecar


def test_boto3_finds_the_injected_sidecar(tmp_path: Path, sdk: pytest.MonkeyPatch) -> None:
    spec = inject_sidecar(pod(), SidecarConfig("keyturn:1"))["spec"]
    container, app = spec["initContainers"][0], spec["containers"][0]
    directories = {mount["mountPath"]: tmp_path / mount["name"] for mount in container["volumeMounts"]}
    command, *flags = container["args"]
    for path, directory in directories.items():
        directory.mkdir()
        flags = [flag.replace(path, str(directory)) for flag in flags]
    mount_credentials(tmp_path / "keyturn-secret", 1)
    env = {variable["name"]: variable["value"] for variable in app["env"]}
    [token_mount] = app["volumeMounts"]
    with running_sidecar(tmp_path, *flags) as sidecar:
        # The test's own flags, which come last, choose free ports instead of the pod's.
        port = next(flag for flag in flags if flag.startswith("--listen=")).removeprefix("--listen=")
        uri = env["AWS_CONTAINER_CREDENTIALS_FULL_URI"].replace(port, sidecar.credentials)
        token_file = env["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]
        sdk.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri)
        sdk.setenv(
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            token_file.replace(token_mount["mountPath"], str(tmp_path / token_mount["name"])),
        )

        assert current_credentials(boto3.Session())[0] == "ASIA1"
        assert sidecar.get(container["startupProbe"]["httpGet"]["path"])[0] == 200
        assert sidecar.get(container["livenessProbe"]["httpGet"]["path"])[0] == 200
    assert command == "sidecar"
