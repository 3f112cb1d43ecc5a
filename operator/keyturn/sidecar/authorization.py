"""The authorization file: it contains the token that the containers of a pod send to the credentials endpoint."""

import os
import re
import secrets
from pathlib import Path

from keyturn.sidecar.mounted_files import read_regular_file

_MAX_BYTES = 4096
_TOKEN = re.compile(rb"[!-~]+")


class AuthorizationError(Exception):
    """The authorization file cannot be read or created. The message is one line and does not contain the token."""


def read_or_create_token(path: Path, mode: int = 0o440) -> str:
    """Return the token in the file, or create the file with a random token and this mode.

    SDKs send the content unchanged in the Authorization header, so it is not stripped here: a character that a
    header cannot contain, such as the newline that an editor appends, raises AuthorizationError. Two processes
    that create the file at the same time return the same token.
    """
    try:
        return read_token(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise AuthorizationError(f"cannot read the authorization file {path}: {error.strerror}") from None
    try:
        _create(path, mode)
        return read_token(path)
    except OSError as error:
        raise AuthorizationError(f"cannot create the authorization file {path}: {error.strerror}") from None


def read_token(path: Path, max_bytes: int = _MAX_BYTES) -> str:
    """Return the token in the file. Raises OSError, or AuthorizationError if a header cannot contain the content."""
    token = read_regular_file(path, max_bytes)
    if not _TOKEN.fullmatch(token):
        raise AuthorizationError(
            f"the authorization file {path} must contain only visible ASCII characters: no space and no newline"
        )
    return token.decode()


def _create(path: Path, mode: int) -> None:
    """Write the file under a temporary name first, so that no process reads an incomplete token."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            os.fchmod(descriptor, mode)  # the umask may have cleared bits
            file.write(secrets.token_urlsafe(32).encode())
            file.flush()
            os.fsync(descriptor)
        # Unlike a rename, a link never replaces a file that another process has created in the meantime.
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
