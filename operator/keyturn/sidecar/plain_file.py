"""A file that somebody else has put there, and that may be anything."""

import errno
import os
import stat
from pathlib import Path


def read_plain(path: Path, most_bytes: int) -> bytes:
    """Read a file; raises OSError also where it is no regular file, or larger than it may be."""
    with open(path, "rb", opener=_open) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"it has more than {most_bytes} bytes", str(path))
    return content


def _open(path: str, flags: int) -> int:
    # A pipe would be waited for.
    return os.open(path, flags | os.O_NONBLOCK)
