"""A pod with a mounted Secret and a sidecar in reader mode."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kubelet_mount import mount_credentials
from tests.support.sidecar_process import ReaderPod, reader_flags, running_sidecar


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The volumes, with the first credentials mounted."""
    mount_credentials(tmp_path / "secret", 1)
    return tmp_path


@pytest.fixture
def pod(directory: Path) -> Iterator[ReaderPod]:
    with running_sidecar(directory, *reader_flags(directory)) as sidecar:
        yield ReaderPod(directory, sidecar)
