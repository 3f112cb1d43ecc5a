"""A pod: a mounted Secret, a reader beside it, and boto3 as it is set up there."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import boto3
import pytest

from keyturn.cli.clock import now
from tests.support.kubelet_mount import process, swap
from tests.support.sidecar_process import Sidecar, running_sidecar


@dataclass(slots=True)
class Pod:
    """The volumes of a pod, and the reader that serves it."""

    directory: Path
    sidecar: Sidecar

    @property
    def secret(self) -> Path:
        return self.directory / "secret"

    @property
    def token_file(self) -> Path:
        return self.directory / "token"

    @property
    def token(self) -> str:
        return self.token_file.read_text()

    def mount(self, number: int, minutes: float = 10) -> None:
        """Swap in the credentials of this number. With ten minutes left boto3 asks on every call."""
        mount(self.secret, number, minutes)

    def given(self) -> str:
        """The key that the endpoint gives now, or the message why it gives none."""
        fields = json.loads(self.sidecar.ask(self.token)[1])
        given: str = fields.get("AccessKeyId") or fields["message"]
        return given

    def gives(self, what: str, seconds: float = 3) -> None:
        """Wait until the endpoint gives this."""
        deadline = time.monotonic() + seconds
        while what not in (given := self.given()):
            assert time.monotonic() < deadline, given
            time.sleep(0.05)


def mount(folder: Path, number: int, minutes: float = 10) -> None:
    """Swap in the credentials of this number, which live so long."""
    swap(folder, process(number, now() + timedelta(minutes=minutes)))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The volumes, with the first credentials."""
    mount(tmp_path / "secret", 1)
    return tmp_path


@pytest.fixture
def pod(directory: Path) -> Iterator[Pod]:
    """A pod whose reader runs."""
    with running_sidecar(directory, *reader_flags(directory)) as sidecar:
        yield Pod(directory, sidecar)


def reader_flags(directory: Path) -> list[str]:
    """The flags of a reader."""
    return [f"--secret-dir={directory / 'secret'}", f"--authorization-file={directory / 'token'}"]


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """boto3 that knows nothing of this machine."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


def keys_of(session: boto3.Session) -> tuple[str | None, ...]:
    """What a session would sign with now."""
    found = session.get_credentials()
    assert found
    frozen = found.get_frozen_credentials()
    return frozen.access_key, frozen.secret_key, frozen.token
