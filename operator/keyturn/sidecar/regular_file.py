"""Reads files that other processes write: a file may be missing, replaced, or not a regular file."""

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

MAX_SECRET_BYTES = 1024 * 1024


class IrregularFileError(OSError):
    """The path is not a regular file, or the file is too large."""


@dataclass(frozen=True, slots=True)
class FileFingerprint:
    """Identifies the content of a file without reading it: equal fingerprints mean equal content."""

    inode: int
    size: int
    # When the inode changed. The modification time is no substitute: the owner can set it to any value.
    changed_ns: int


def file_fingerprint(path: Path) -> FileFingerprint | None:
    """Return the fingerprint of a file, or None if there is no file or it cannot be examined."""
    try:
        status = path.stat()
    except OSError:
        return None
    return FileFingerprint(status.st_ino, status.st_size, status.st_ctime_ns)


def read_regular_file(path: Path, max_bytes: int) -> bytes:
    """Read a file; raises OSError: IrregularFileError if it is not a regular file or is larger than `max_bytes`."""
    # Before it is opened, because opening a device can have side effects.
    _require_regular(path, path.stat())
    # The path may be a pipe by now. Without O_NONBLOCK, opening a pipe blocks until there is a writer.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        _require_regular(path, os.fstat(file.fileno()))
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise IrregularFileError(errno.EFBIG, f"larger than {max_bytes} bytes", str(path))
    return content


def open_regular_file(path: Path) -> int:
    """Open a file for writing, and create it with mode 0600 if it does not exist. The caller closes the descriptor.

    Anything else at the path, such as a pipe or a link, is removed: writing to it could block or reach another file.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            path.unlink()
    # The path may be a pipe or a link again by now.
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        _require_regular(path, os.fstat(file))
    except OSError:
        os.close(file)
        raise
    return file


def _require_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise IrregularFileError(errno.EINVAL, "not a regular file", str(path))
