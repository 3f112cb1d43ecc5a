"""Paths that are not readable as a small regular file."""

import os
import stat
from pathlib import Path

# A directory is no case here: Keyturn never removes a directory that it did not create.
IRREGULAR_KINDS = ("pipe", "socket", "link", "dangling link", "link to itself")


def put_irregular_file(path: Path, kind: str) -> None:
    """Create a pipe, a Unix socket, a directory, a link to a device, a broken link, or a sparse file of 2 GB."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        # Not bound by a socket, because its path is limited to 108 characters.
        os.mknod(path, stat.S_IFSOCK | 0o600)
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/dev/zero")
    elif kind == "dangling link":
        path.symlink_to("missing")
    elif kind == "link to itself":
        path.symlink_to(path.name)
    else:
        with path.open("wb") as file:
            file.truncate(2 << 30)
