"""The containers of examples/cronjob.yaml, run as processes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import CLIENT_ID, OIDC_ROLE_ARN
from tests.support.standalone_process import StandaloneDirectory, caller_arn

EXAMPLE = Path(__file__).parents[3] / "examples" / "cronjob.yaml"


def mounted(container: dict[str, Any], path: str, volumes: Path) -> str:
    """Return the path that stands for a path in a container."""
    [mount] = [it for it in container["volumeMounts"] if f"{path}/".startswith(f"{it['mountPath']}/")]
    return str(volumes / mount["name"]) + path.removeprefix(mount["mountPath"])


def test_job_uses_the_credentials_of_its_init_container(
    directory: StandaloneDirectory, aws: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = {body["kind"]: body for body in yaml.safe_load_all(EXAMPLE.read_text())}
    pod = documents["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [init], [job] = pod["initContainers"], pod["containers"]
    request = yaml.safe_load(documents["ConfigMap"]["data"]["request.yaml"])
    request["spec"]["source"]["token"]["serviceAccount"]["audiences"] = [CLIENT_ID]
    request["spec"]["exchanges"][0]["assumeRoleWithWebIdentity"]["roleArn"] = OIDC_ROLE_ARN
    for volume, name, text in (
        ("request", "request.yaml", yaml.safe_dump(request)),
        ("identity", "token", aws.jwt(CLIENT_ID, subject="demo-user")),
    ):
        (directory.path / volume).mkdir()
        (directory.path / volume / name).write_text(text)
    words = [word.partition("=") for word in init["args"]]
    arguments = [name + equals + (mounted(init, path, directory.path) if path else "") for name, equals, path in words]
    command = [sys.executable, "-m", "keyturn", *arguments, f"--config={directory.path / 'settings.yaml'}"]
    subprocess.run(command, check=True, timeout=60)

    variables = {env["name"]: env["value"] for env in job["env"]}
    file = mounted(job, variables["AWS_SHARED_CREDENTIALS_FILE"], directory.path)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", file)
    assert ":assumed-role/" in caller_arn(aws, boto3.Session())
