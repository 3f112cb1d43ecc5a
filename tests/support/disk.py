"""Disks that are full or read-only: a tmpfs where we may mount one, else limits and modes of the process."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, kib: int = 256) -> Iterator[Path]:
    """A disk of so many KiB at a folder; without the right to mount the test is skipped."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "keyturn-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder, for root a small disk, read-only for a while."""
    root = os.geteuid() == 0
    _set_mode(folder, root=root, writable=False)
    try:
        yield
    finally:
        _set_mode(folder, root=root, writable=True)


def _set_mode(folder: Path, *, root: bool, writable: bool) -> None:
    if root:
        subprocess.run(["mount", "-o", f"remount,{'rw' if writable else 'ro'}", str(folder)], check=True)
    else:
        folder.chmod(0o755 if writable else 0o555)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Fill a small disk up for a while."""
    filler = folder / "..filler"
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
def no_longer_files(size: int) -> Iterator[None]:
    """Let this process write no file that is longer: the same error path as that of a full disk, for anybody."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
