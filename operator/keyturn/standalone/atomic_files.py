"""Writes files atomically: after a crash, a file has either its old or its new content."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from keyturn.core.errors import RefusedError
from keyturn.sidecar.regular_file import open_regular_file

LOCK = "..lock"


class StartupError(Exception):
    """The process cannot start with its options. The message is one line with the reason."""


@contextmanager
def reporting_write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError, such as a full or read-only disk, into RefusedError (WriteDenied) with this path."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or type(error).__name__
        raise RefusedError("WriteDenied", f"{path} cannot be written: {cause}") from None


def replace_file(path: Path, content: bytes, temporary: Path) -> None:
    """Replace a file atomically, with mode 0600. `temporary`, in the same directory, is written first."""
    write_in_place(temporary, content, 0o600)
    temporary.replace(path)
    sync_directory(path.parent)


def write_in_place(path: Path, content: bytes, mode: int) -> None:
    """Write a file and flush it to disk. An existing file is overwritten in place: its blocks are reused."""
    file = open_regular_file(path)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.ftruncate(file, len(content))
        os.fchmod(file, mode)
        os.fsync(file)
    finally:
        os.close(file)


def sync_directory(directory: Path) -> None:
    """Flush the entries of a directory to disk. Without this, a power failure can undo a rename."""
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def locked_directory(directory: Path, mode: int, flock: Callable[[int, int], None] = fcntl.flock) -> Iterator[None]:
    """Lock a directory for this process; create it with `mode` if it does not exist. Raises StartupError.

    The kernel releases the lock when the process ends, even if it is killed.
    """
    try:
        directory.mkdir(mode=mode, parents=True, exist_ok=True)
        file = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartupError(f"{directory} cannot be used: {error.strerror or error}") from None
    try:
        try:
            flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartupError(f"another process uses {directory}: give each process its own directory") from None
        except OSError as error:
            cause = error.strerror or type(error).__name__
            raise StartupError(
                f"{directory} cannot be locked: {cause}: use a file system that supports flock"
            ) from None
        yield
    finally:
        os.close(file)
