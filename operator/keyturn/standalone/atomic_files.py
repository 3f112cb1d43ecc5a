"""Files that are there whole or not at all, after a crash too: written aside, flushed, renamed."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keyturn.core.errors import RefusedError

LOCK = "..lock"


class UnusableError(Exception):
    """This process cannot do its work as it was started; the message says why, in one line."""


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Tell a disk that is full or read-only, or that is not ours to write, as RefusedError (WriteDenied)."""
    try:
        yield
    except OSError as error:
        says = error.strerror or type(error).__name__
        raise RefusedError("WriteDenied", f"{place} cannot be written: {says}") from None


def put(path: Path, content: bytes, aside: Path) -> None:
    """Replace a file by one with this content, for its owner only; `aside`, beside it, is written first."""
    fill(aside, content, 0o600)
    aside.replace(path)
    flush(path.parent)


def fill(path: Path, content: bytes, mode: int) -> None:
    """Write a file and flush it to the disk. What is there is written over in place: its room is ours already."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.ftruncate(file, len(content))
        os.fchmod(file, mode)
        os.fsync(file)
    finally:
        os.close(file)


def flush(folder: Path) -> None:
    """Make what was created, renamed or removed in a folder survive a crash of the machine."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def locked(folder: Path, mode: int) -> Iterator[None]:
    """Have a folder for this process alone, made with `mode` where there is none.

    The kernel lets go of it when the process ends, however that happens. Raises UnusableError.
    """
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnusableError(f"{folder} cannot be used: {error.strerror or error}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UnusableError(f"another process works in {folder}: give each a folder of its own") from None
    finally:
        os.close(file)
