"""Reads files that other processes write: a file may be missing, replaced, or not a regular file."""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path


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
    """Read a file; raises OSError also if it is not a regular file or is larger than `max_bytes`."""
    # Without O_NONBLOCK, opening a pipe blocks until there is a writer.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"larger than {max_bytes} bytes", str(path))
    return content
