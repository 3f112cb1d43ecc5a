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

from keyturn.cli.clock import now
from keyturn.cli.credential_process import credential_process
from tests.integration.sidecar.conftest import Pod, keys_of, mount
from tests.support.kubelet_mount import process, swap, variables

OPERATOR = Path(__file__).parents[3] / "operator"


def use(sdk: pytest.MonkeyPatch, directory: Path, *flags: str) -> None:
    """Have a config file that runs it, and nothing else."""
    command = f"env PYTHONPATH={OPERATOR} {sys.executable} -m keyturn credential-process {' '.join(flags)}"
    (directory / "config").write_text(f"[default]\ncredential_process = {command}\n")
    sdk.setenv("AWS_CONFIG_FILE", str(directory / "config"))


def follows(session: boto3.Session, put: Callable[[int], None]) -> None:
    """Whether a session uses each of three keys, one after the other."""
    seen = []
    for number in (1, 2, 3):
        put(number)
        seen.append(keys_of(session))

    assert seen == [(f"ASIA{n}", f"planted-secret-{n}", f"planted-token-{n}") for n in (1, 2, 3)]


def test_from_the_mounted_secret(directory: Path, sdk: pytest.MonkeyPatch) -> None:
    use(sdk, directory, f"--secret-dir={directory / 'secret'}")

    follows(boto3.Session(), lambda number: mount(directory / "secret", number))


def test_from_the_sidecar(pod: Pod, sdk: pytest.MonkeyPatch) -> None:
    use(sdk, pod.directory, f"--url=http://{pod.sidecar.credentials}/", f"--authorization-file={pod.token_file}")

    def put(number: int) -> None:
        pod.mount(number)
        pod.gives(f"ASIA{number}")

    follows(boto3.Session(), put)


def test_what_is_wrong_is_told_by_boto3(directory: Path, sdk: pytest.MonkeyPatch) -> None:
    use(sdk, directory, f"--secret-dir={directory / 'secret'}")
    swap(directory / "secret", {})

    with pytest.raises(Exception, match=r"there is neither credentials\.json nor AWS_ACCESS_KEY_ID in"):
        keys_of(boto3.Session())


def pieces(folder: Path) -> list[tuple[Path, str]]:
    """Four files, one after the other."""
    return [(folder / name, text) for name, text in variables(2, now() + timedelta(hours=1)).items()]


def halves(folder: Path) -> list[tuple[Path, str]]:
    """One file, emptied, then written in two pieces."""
    [(name, text)] = process(2, now() + timedelta(hours=1)).items()
    return [(folder / name, text[:length]) for length in (0, 90, len(text))]


@pytest.mark.parametrize("steps", [pieces, halves])
def test_what_is_being_written_is_waited_for(steps: Callable[[Path], list[tuple[Path, str]]], tmp_path: Path) -> None:
    first, *others = steps(tmp_path)
    for path, text in steps(tmp_path):
        path.write_text(text.replace("2", "1"))
    first[0].write_text(first[1])

    def write_on() -> None:
        for path, text in others:
            time.sleep(0.05)
            path.write_text(text)

    thread = threading.Thread(target=write_on)
    thread.start()
    told = CliRunner().invoke(credential_process, [f"--secret-dir={tmp_path}"])
    thread.join()
    given = json.loads(told.stdout)

    assert [re.sub(r"\D", "", given[name]) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")] == ["2"] * 3
