"""The authorization token: what the containers of a pod show to the endpoint, in a file that they share."""

import os
import re
import secrets
from pathlib import Path

from keyturn.sidecar.plain_file import read_plain

_MODE = 0o440
_LONGEST = 4096
_TOKEN = re.compile(rb"[!-~]+")


class AuthorizationError(Exception):
    """The file can be neither read nor made; the message says why in one line, and holds no token."""


def authorization(path: Path) -> str:
    """Read the token in the file, or make the file where there is none, for owner and group to read (0440).

    An SDK sends the file's content as it is in the header Authorization, so nothing is stripped here: what a
    header cannot hold, such as the newline of an editor, raises AuthorizationError, as a file does that is no
    file, cannot be read or cannot be made. Two processes that make it at once end up with the same token.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise AuthorizationError(f"cannot read the authorization file {path}: {error.strerror}") from None
    try:
        _make(path)
        return _read(path)
    except OSError as error:
        raise AuthorizationError(f"cannot make the authorization file {path}: {error.strerror}") from None


def _read(path: Path) -> str:
    token = read_plain(path, _LONGEST)
    if not _TOKEN.fullmatch(token):
        raise AuthorizationError(f"the authorization file {path} must hold visible characters of ASCII, and no newline")
    return token.decode()


def _make(path: Path) -> None:
    """Make it under another name first: nobody may read a file that is not whole yet."""
    other = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(other, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            os.fchmod(descriptor, _MODE)  # whatever the umask is
            file.write(secrets.token_urlsafe(32).encode())
            file.flush()
            os.fsync(descriptor)
        # Unlike a rename, a link never replaces what another process made meanwhile, and follows no symlink.
        os.link(other, path)
    except FileExistsError:
        pass
    finally:
        other.unlink()
