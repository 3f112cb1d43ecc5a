"""keyturn credential-process as boto3 runs it."""

import sys
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from tests.sidecar.conftest import Pod, keys_of, mount
from tests.unit.sidecar.mounting import swap

OPERATOR = Path(__file__).parents[2] / "operator"


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
    use(sdk, directory, f"--secret={directory / 'secret'}")

    follows(boto3.Session(), lambda number: mount(directory / "secret", number))


def test_from_the_sidecar(pod: Pod, sdk: pytest.MonkeyPatch) -> None:
    use(sdk, pod.directory, f"--url=http://{pod.sidecar.credentials}/", f"--authorization-file={pod.token_file}")

    def put(number: int) -> None:
        pod.mount(number)
        pod.gives(f"ASIA{number}")

    follows(boto3.Session(), put)


def test_what_is_wrong_is_told_by_boto3(directory: Path, sdk: pytest.MonkeyPatch) -> None:
    use(sdk, directory, f"--secret={directory / 'secret'}")
    swap(directory / "secret", {})

    with pytest.raises(Exception, match=r"there is neither credentials\.json nor AWS_ACCESS_KEY_ID in"):
        keys_of(boto3.Session())
