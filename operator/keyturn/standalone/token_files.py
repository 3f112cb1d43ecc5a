"""The TokenStore of standalone mode: one file in the state directory for each source whose token is rotated."""

import asyncio
import errno
import functools
import hashlib
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError, RefusedError, StorageGoneError, UnavailableError
from keyturn.core.token_family import StoredToken, TokenFamily, is_superseded, read_family
from keyturn.reconcile.token_locks import token_secret_name
from keyturn.sidecar.mounted_files import MAX_SECRET_BYTES, IrregularFileError, read_regular_file
from keyturn.standalone.atomic_files import (
    LOCK,
    replace_file,
    reporting_write_errors,
    sync_directory,
    write_in_place,
)

NO_STATE_DIR = (
    "the request consumes the credential in its source: set --state-dir to a directory that survives restarts, "
    "to store the token that replaces it"
)
_UID = "file"
# A response is at most 64 KiB, and the token family grows by one fingerprint.
_RESERVED_BYTES = 66 * 1024
# How many token files are read when the process starts.
_MAX_FILES = 1_000
# Suffixes of hidden files, which cannot be confused with Secrets: their names do not begin with a dot. The dry run
# allocates the reserved file, and the save overwrites it.
_RESERVED, _TEMPORARY = "reserved", "tmp"
# No other error is permanent: a full, read-only or failing disk can recover, and ENXIO may concern a FIFO.
_DEVICE_GONE = errno.ENODEV
_log = logging.getLogger(__name__)


class TokenFiles:
    """Stores tokens in a directory that this process has locked. Without a directory, no token can be consumed.

    Raises RefusedError (WriteDenied) if the directory cannot be opened.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._id, self._lock_id = _file_ids(directory)
        # As long as it is open, Linux finds the directory after it was moved.
        descriptor = -1
        if directory and self._id:
            with reporting_write_errors(directory):
                descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        self._original = Path(f"/proc/self/fd/{descriptor}")

    def clean_up(self) -> None:
        """Finish a save that a crash interrupted, if its content is complete, and remove temporary files."""
        if self._directory is None:
            return
        with reporting_write_errors(self._directory):
            for reserved in self._directory.glob(f"..*.{_RESERVED}"):
                _finish_save(reserved, self._directory / f"{reserved.stem.removeprefix('..')}.json")
            for suffix in (_RESERVED, _TEMPORARY):
                for leftover in self._directory.glob(f"..*.{suffix}"):
                    leftover.unlink()

    async def read(self, request: Request) -> StoredToken | None:
        """Read the file; raises RefusedError (TargetConflict) if Keyturn did not write it for this request."""
        return await asyncio.to_thread(self._read, request)

    async def read_family(self, request: Request, name: str) -> TokenFamily | None:
        """Read the token family in another file; None if there is none for this namespace."""
        return await asyncio.to_thread(self._read_family, request.namespace, name)

    async def find_families(self, request: Request) -> Mapping[str, TokenFamily]:  # noqa: ARG002 - of TokenStore
        """Find nothing: this process read all files when it started, and no other process writes them."""
        return {}

    def families(self, namespace: str) -> dict[str, TokenFamily]:
        """Return the token families of a namespace, by the names of their token Secrets."""
        names = [path.stem for path in self._directory.glob("*.json")] if self._directory else []
        families = {name: self._read_family(namespace, name) for name in sorted(names)[:_MAX_FILES]}
        return {name: family for name, family in families.items() if family}

    async def create(self, request: Request, stored: StoredToken) -> StoredToken:
        """Create the file; raises UnavailableError if it exists."""
        if await self.read(request):
            raise _conflict(self._path(request))
        return await asyncio.to_thread(self._replace, request, stored)

    async def update(self, request: Request, stored: StoredToken, *, dry_run: bool = False) -> StoredToken:
        """Replace the file, or with `dry_run` only reserve the disk space that the save will need."""
        return await asyncio.to_thread(self._update, request, stored, dry_run)

    async def withdraw(self, request: Request, stored: StoredToken) -> StoredToken:
        """Replace the file."""
        return await self.update(request, stored)

    def prepare_save(self, request: Request, stored: StoredToken) -> Callable[[], Awaitable[StoredToken]]:
        """Return the call that writes into the reserved space, because the disk may be full by then."""
        return functools.partial(asyncio.to_thread, self._save, request, stored, _encode(request, stored))

    def _read(self, request: Request) -> StoredToken | None:
        path = self._path(request)
        if not self._is_in_place():
            # For example, the volume was unmounted: with an empty directory, a consumed token would be sent again.
            problem = f"{self._directory} is no longer the directory locked at startup"
            if _is_missing(self._original):
                raise StorageGoneError("WriteDenied", problem)
            raise UnavailableError("Unavailable", problem)
        try:
            content = read_regular_file(path, MAX_SECRET_BYTES)
        except FileNotFoundError:
            if path.is_symlink():
                # The file may be on a volume that is not mounted. Without it, a consumed token would be sent again.
                raise RefusedError("WriteDenied", f"{path} cannot be read: not a regular file") from None
            return None
        except OSError as error:
            raise RefusedError("WriteDenied", f"{path} cannot be read: {error.strerror}") from None
        return _decode(request, content, path)

    def _read_family(self, namespace: str, name: str) -> TokenFamily | None:
        if self._directory is None:
            return None
        try:
            content = read_regular_file(self._directory / f"{name}.json", MAX_SECRET_BYTES)
        except OSError:
            return None
        return _family(content) if _json_object(content).get("namespace") == namespace else None

    def _update(self, request: Request, token: StoredToken, dry_run: bool) -> StoredToken:  # noqa: FBT001 - for to_thread
        stored, path = self._read(request), self._path(request)
        if stored is None or stored.version != token.version:
            raise _conflict(path)
        if not dry_run:
            return self._replace(request, token)
        with reporting_write_errors(path):
            size = len(_encode(request, token)) + _RESERVED_BYTES
            write_in_place(_hidden(path, _RESERVED), bytes(size), 0o600)
            sync_directory(path.parent)
        return token

    def _save(self, request: Request, token: StoredToken, content: bytes) -> StoredToken:
        try:
            stored = self._read(request)
        except KeyturnError as error:
            # Only this process uses the directory, and overwriting a broken file is better than losing a live token.
            _log.warning("overwriting the stored token: %s", error)
            stored = None
        path = self._path(request)
        if stored and stored.family and token.family and is_superseded(token.family, stored.family):
            _log.warning("%s already contains a newer token than the one to save", path)
            return stored
        is_saved = False
        try:
            is_saved = not _is_missing(self._original) and _write_unless_gone(self._original / path.name, content, path)
        finally:
            # Another directory may be at the path, for example because the volume was unmounted. Nobody knows which of
            # the two the next process will use, so an error in one of them must not prevent the save in the other.
            if not (is_saved and self._is_in_place()):
                is_saved = _write_unless_gone(path, content, path) or is_saved
        if not is_saved:
            problem, advice = f"{self._directory} no longer exists", "sign in again (keyturn login)"
            raise StorageGoneError("WriteDenied", f"{problem}; {advice}")
        return replace(token, uid=_UID, version=_version(content))

    def _is_in_place(self) -> bool:
        """Whether the directory at the path is the one that was locked.

        Removing the lock file changes nothing, but another one may have been locked by another process.
        """
        directory_id, lock_id = _file_ids(self._directory)
        return directory_id == self._id and lock_id in (None, self._lock_id)

    def _replace(self, request: Request, token: StoredToken) -> StoredToken:
        path, content = self._path(request), _encode(request, token)
        with reporting_write_errors(path):
            replace_file(path, content, _hidden(path, _TEMPORARY))
        return replace(token, uid=_UID, version=_version(content))

    def _path(self, request: Request) -> Path:
        if self._directory is None:
            raise RefusedError("InvalidSpec", NO_STATE_DIR)
        return self._directory / f"{token_secret_name(request)[1]}.json"


def _file_ids(directory: Path | None) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """Identify a directory and its lock file; None for what does not exist."""
    return (_file_id(directory), _file_id(directory / LOCK)) if directory else (None, None)


def _file_id(path: Path) -> tuple[int, int] | None:
    """Identify a file. On another volume, an inode can have the same number."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _write_unless_gone(path: Path, content: bytes, reported_path: Path) -> bool:
    """Write a token into the reserved space. Return whether the directory exists; raises RefusedError."""
    with reporting_write_errors(reported_path):
        try:
            replace_file(path, content, _hidden(path, _RESERVED))
        except OSError as error:
            if error.errno == _DEVICE_GONE or _is_missing(path.parent):
                return False
            raise
    return True


def _is_missing(directory: Path) -> bool:
    try:
        return directory.stat().st_nlink == 0
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def _hidden(path: Path, suffix: str) -> Path:
    return path.with_name(f"..{path.stem}.{suffix}")


def _finish_save(reserved: Path, path: Path) -> None:
    """Replace the file with the reserved one if that contains the replacement of the live token."""
    if reserved.is_symlink():
        return
    try:
        # After a crash before the truncation, zeros that reserved the space follow the content.
        content = read_regular_file(reserved, MAX_SECRET_BYTES).rstrip(b"\0")
        saved, stored = _family(content), _family(read_regular_file(path, MAX_SECRET_BYTES))
    except (FileNotFoundError, IrregularFileError):
        return
    if not (saved and stored) or saved.live in ("", stored.live):
        return
    if saved == stored.rotated(saved.live, saved.expires):
        replace_file(path, content, reserved)
        _log.warning("%s: finished a save that was interrupted", path)


def _family(content: bytes) -> TokenFamily | None:
    return read_family(json.dumps(_json_object(content).get("family")))


def _encode(request: Request, token: StoredToken) -> bytes:
    fields = {
        "namespace": request.namespace,
        "token": token.value,
        "previous": token.previous,
        "family": json.loads(token.family.encoded()) if token.family else None,
    }
    return json.dumps(fields, indent=1).encode()


def _decode(request: Request, content: bytes, path: Path) -> StoredToken:
    fields, family = _json_object(content), _family(content)
    if family is None or not all(isinstance(fields.get(key), str) for key in ("namespace", "token", "previous")):
        raise RefusedError(
            "TargetConflict",
            f"{path} was not written by Keyturn: restore it, or remove it and store a new token in the source",
        )
    if fields["namespace"] != request.namespace:
        # Fingerprints depend on the namespace, so a consumed token would not be recognized.
        raise RefusedError(
            "TargetConflict",
            f"{path} contains the token of a request in namespace {fields['namespace']}: use another directory",
        )
    return StoredToken(fields["token"], family, fields["previous"], _UID, _version(content))


def _json_object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _version(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _conflict(path: Path) -> UnavailableError:
    return UnavailableError("Unavailable", f"{path} was changed by another process")
