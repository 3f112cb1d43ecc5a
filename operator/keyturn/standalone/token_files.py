"""The state folder: the live token of a source that its issuer rotates, with its lineage, one file each."""

import asyncio
import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError, RefusedError, UnavailableError
from keyturn.core.token_family import StoredToken, TokenFamily, is_superseded, read_family
from keyturn.reconcile.dependencies import token_place
from keyturn.standalone.atomic_files import LOCK, fill, flush, put, writing

_STORED = "file"
# A token is an answer of 64 KiB at most; its lineage grows by one fingerprint.
_ROOM_BYTES = 66 * 1024
_log = logging.getLogger(__name__)


class FileTokens:
    """The TokenStore of a folder that this process has locked. Without a folder nothing can be spent."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lock = _number(folder)

    def tidy(self) -> None:
        """Finish a save that a crash came into, if the answer is whole, and remove what else it has left."""
        if self._folder is None:
            return
        with writing(self._folder):
            for room in self._folder.glob("..*.room"):
                _finish(room, self._folder / f"{room.stem.removeprefix('..')}.json")
            for left in [*self._folder.glob("..*.room"), *self._folder.glob("..*.next")]:
                left.unlink()

    async def read(self, request: Request) -> StoredToken | None:
        """Read the file; raises RefusedError (TargetConflict) for one that is not what was written."""
        return await asyncio.to_thread(self._read, request)

    async def create(self, request: Request, kept: StoredToken) -> StoredToken:
        """Make the file."""
        return await asyncio.to_thread(self._create, request, kept)

    async def keep(self, request: Request, kept: StoredToken, *, dry_run: bool = False) -> StoredToken:
        """Write all of it, or, to rehearse, take the room that the save will need."""
        return await asyncio.to_thread(self._keep, request, kept, dry_run)

    async def save(self, request: Request, kept: StoredToken) -> StoredToken:
        """Write a token that was answered into the room that was taken for it: the disk may be full by now."""
        return await asyncio.to_thread(self._save, request, kept)

    def _read(self, request: Request) -> StoredToken | None:
        path = self._path(request)
        if _number(self._folder) != self._lock:
            # Such as a volume that was unmounted: an empty folder in its place would have a spent token sent.
            raise UnavailableError("Unavailable", f"{self._folder} is not the folder that it was at the start")
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RefusedError("WriteDenied", f"{path} cannot be read: {error.strerror}") from None
        return _kept(request, content, path)

    def _create(self, request: Request, kept: StoredToken) -> StoredToken:
        if self._read(request):
            raise _changed(self._path(request))
        return self._put(request, kept, "next")

    def _keep(self, request: Request, kept: StoredToken, dry_run: bool) -> StoredToken:  # noqa: FBT001 - for to_thread
        now, path = self._read(request), self._path(request)
        if now is None or now.version != kept.version:
            raise _changed(path)
        if not dry_run:
            return self._put(request, kept, "next")
        with writing(path):
            fill(_aside(path, "room"), bytes(len(_content(request, kept)) + _ROOM_BYTES), 0o600)
            flush(path.parent)
        return kept

    def _save(self, request: Request, kept: StoredToken) -> StoredToken:
        try:
            now = self._read(request)
        except KeyturnError as error:
            # The folder is ours alone: better to write over what is broken than to lose a live token.
            _log.warning("written over: %s", error)
            now = None
        if now and now.family and kept.family and is_superseded(kept.family, now.family):
            _log.warning("%s holds a newer token than the one that was answered late", self._path(request))
            return now
        return self._put(request, kept, "room")

    def _put(self, request: Request, kept: StoredToken, suffix: str) -> StoredToken:
        path, content = self._path(request), _content(request, kept)
        with writing(path):
            put(path, content, _aside(path, suffix))
        return replace(kept, uid=_STORED, version=_version(content))

    def _path(self, request: Request) -> Path:
        if self._folder is None:
            raise RefusedError("InvalidSpec", NO_STATE)
        return self._folder / f"{token_place(request)[1]}.json"


NO_STATE = (
    "the request uses up what its source holds: give it a folder to keep what comes of that, which outlives this "
    "process, by --state-dir"
)


def _number(folder: Path | None) -> int | None:
    """The number of the lock's file, None where there is none."""
    try:
        return (folder / LOCK).stat().st_ino if folder else None
    except OSError:
        return None


def _aside(path: Path, suffix: str) -> Path:
    # No name of a Secret begins with a dot.
    return path.with_name(f"..{path.stem}.{suffix}")


def _finish(room: Path, path: Path) -> None:
    """Take what was about to replace a file, if it is the answer to the token that the file holds."""
    # What a crash cut off before the file was shortened ends in the room's zeros.
    content = room.read_bytes().rstrip(b"\0")
    saved, now = _lineage(content), _lineage(path.read_bytes()) if path.exists() else None
    if saved and now and saved.live and saved == now.rotated(saved.live) and saved.live != now.live:
        put(path, content, room)
        _log.warning("%s: a save that was interrupted is finished", path)


def _lineage(content: bytes) -> TokenFamily | None:
    return read_family(json.dumps(_parsed(content).get("family")))


def _content(request: Request, kept: StoredToken) -> bytes:
    told = {
        "namespace": request.namespace,
        "token": kept.value,
        "previous": kept.previous,
        "family": json.loads(kept.family.encoded()) if kept.family else None,
    }
    return json.dumps(told, indent=1).encode()


def _kept(request: Request, content: bytes, path: Path) -> StoredToken:
    told = _parsed(content)
    family = read_family(json.dumps(told.get("family")))
    if family is None or not all(isinstance(told.get(key), str) for key in ("namespace", "token", "previous")):
        raise RefusedError(
            "TargetConflict",
            f"{path} is not what Keyturn wrote: put it back, or remove it and put a new token in the source",
        )
    if told["namespace"] != request.namespace:
        # The fingerprints of another namespace are others: a spent token would look like a new one.
        raise RefusedError(
            "TargetConflict",
            f"{path} keeps the token of a request in namespace {told['namespace']}: give each a folder of its own",
        )
    return StoredToken(told["token"], family, told["previous"], _STORED, _version(content))


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _version(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _changed(path: Path) -> UnavailableError:
    return UnavailableError("Unavailable", f"{path} was changed by somebody else meanwhile")
