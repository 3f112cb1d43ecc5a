"""Full and read-only disks: a tmpfs if this user may mount one, else limits and modes of the process."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(directory: Path, kib: int = 256) -> Iterator[Path]:
    """Mount a disk of this size at a directory. The test is skipped if this user may not mount."""
    directory.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "keyturn-test", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a small disk")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Make a directory (for root: a small disk) read-only within the block."""
    root = os.geteuid() == 0
    _set_mode(directory, root=root, writable=False)
    try:
        yield
    finally:
        _set_mode(directory, root=root, writable=True)


def _set_mode(directory: Path, *, root: bool, writable: bool) -> None:
    if root:
        subprocess.run(["mount", "-o", f"remount,{'rw' if writable else 'ro'}", str(directory)], check=True)
    else:
        directory.chmod(0o755 if writable else 0o555)


@contextmanager
def full(directory: Path) -> Iterator[None]:
    """Fill a small disk within the block."""
    filler = directory / "..filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            pass
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def limited_file_size(size: int) -> Iterator[None]:
    """Limit the size of files within the block, which any user may do: writes then fail as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
