"""keyturn credential-process as boto3 runs it."""

import json
import re
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner

from keyturn.cli import now
from keyturn.cli.credential_process import credential_process
from tests.support.boto3_credentials import current_credentials
from tests.support.kubelet_mount import process, swap, variables
from tests.support.sidecar_process import ReaderPod

OPERATOR = Path(__file__).parents[3] / "operator"


def configure(sdk: pytest.MonkeyPatch, directory: Path, *flags: str) -> None:
    """Write a config file with the credential process and nothing else."""
    command = f"env PYTHONPATH={OPERATOR} {sys.executable} -m keyturn credential-process {' '.join(flags)}"
    (directory / "config").write_text(f"[default]\ncredential_process = {command}\n")
    sdk.setenv("AWS_CONFIG_FILE", str(directory / "config"))


def test_boto3_follows_the_sidecar(pod: ReaderPod, sdk: pytest.MonkeyPatch) -> None:
    configure(
        sdk,
        pod.directory,
        f"--url=http://{pod.sidecar.credentials}/",
        f"--authorization-file={pod.token_file}",
    )
    session, seen = boto3.Session(), []
    for number in (1, 2, 3):
        pod.mount(number)
        pod.wait_for_response(f"ASIA{number}")
        seen.append(current_credentials(session))

    assert seen == [(f"ASIA{n}", f"planted-secret-{n}", f"planted-token-{n}") for n in (1, 2, 3)]


def test_boto3_reports_the_reason_for_missing_credentials(directory: Path, sdk: pytest.MonkeyPatch) -> None:
    configure(sdk, directory, f"--secret-dir={directory / 'secret'}")
    swap(directory / "secret", {})

    with pytest.raises(Exception, match=r"contains neither credentials\.json nor AWS_ACCESS_KEY_ID"):
        current_credentials(boto3.Session())


def write_file_after_file(directory: Path) -> list[tuple[Path, str]]:
    return [(directory / name, text) for name, text in variables(2, now() + timedelta(hours=1)).items()]


def write_one_file_in_parts(directory: Path) -> list[tuple[Path, str]]:
    [(name, text)] = process(2, now() + timedelta(hours=1)).items()
    return [(directory / name, text[:length]) for length in (0, 90, len(text))]


@pytest.mark.parametrize("steps", [write_file_after_file, write_one_file_in_parts])
def test_credential_process_waits_for_files_being_written(
    steps: Callable[[Path], list[tuple[Path, str]]], tmp_path: Path
) -> None:
    first, *others = steps(tmp_path)
    for path, text in steps(tmp_path):
        path.write_text(text.replace("2", "1"))
    first[0].write_text(first[1])

    def write_others() -> None:
        for path, text in others:
            time.sleep(0.05)
            path.write_text(text)

    thread = threading.Thread(target=write_others)
    thread.start()
    result = CliRunner().invoke(credential_process, [f"--secret-dir={tmp_path}"])
    thread.join()
    fields = json.loads(result.stdout)

    assert [re.sub(r"\D", "", fields[name]) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")] == ["2"] * 3
