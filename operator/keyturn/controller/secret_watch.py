"""Watches the metadata of Secrets only, so that their values never reach this process."""

import asyncio
import logging
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from http import HTTPStatus
from typing import Any

import aiohttp
import msgspec

from keyturn.controller.api_client import LIST, WATCH_SECONDS, ApiClient
from keyturn.core.errors import UnavailableError

_PAGE = "500"
_PAUSE_SECONDS = 1.0
_LOG_INTERVAL_SECONDS = 60

_log = logging.getLogger(__name__)

OnSecret = Callable[["Meta", bool], None]


class Owner(msgspec.Struct, frozen=True):
    """An owner reference."""

    uid: str


class Fields(msgspec.Struct, frozen=True, rename="camel"):
    """An entry of managedFields."""

    manager: str = ""
    fields_v1: dict[str, Any] = msgspec.field(default_factory=dict, name="fieldsV1")

    def data_keys(self) -> frozenset[str]:
        """Return the keys of a Secret's data that this manager owns."""
        return frozenset(key[2:] for key in self.fields_v1.get("f:data", {}) if key.startswith("f:"))


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """The part of a Secret's metadata that is read."""

    name: str
    namespace: str
    uid: str
    resource_version: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[Owner, ...] = ()
    managed_fields: tuple[Fields, ...] = ()


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    remaining: str = msgspec.field(default="", name="continue")


class _Item(msgspec.Struct, frozen=True):
    metadata: Meta


class _Line(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _Any(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    code: int = 0


async def watch(api: ApiClient, path: str, selector: str, on_secret: OnSecret, listed: asyncio.Event) -> None:
    """Call `on_secret(metadata, alive)` for each object and each change, until cancelled.

    `listed` is set after the first list. Deletions that were missed while disconnected are reported after the next
    list. A broken watch resumes at its resourceVersion; if that has expired, the objects are listed again.
    """
    reported, version, logged, logged_at = _Reported(on_secret), "", "", 0.0
    while True:
        try:
            if not version:
                version = await _list(api, path, selector, reported)
                listed.set()
            version = await _follow(api, path, selector, version, reported)
        except (UnavailableError, aiohttp.ClientError, TimeoutError, OSError) as error:
            status = getattr(error, "status", 0)
            version = "" if status == HTTPStatus.GONE else version
            kind = f"HTTP {status}" if status else type(error).__name__
            why = str(error) if isinstance(error, UnavailableError) else kind
            now = asyncio.get_running_loop().time()
            # Without permission a watch breaks every second.
            if why != logged or now - logged_at >= _LOG_INTERVAL_SECONDS:
                logged, logged_at = why, now
                _log.warning("the watch of %s broke (%s); retrying", path, why)
            await asyncio.sleep(_PAUSE_SECONDS)


class _Reported:
    """The objects that were reported, to find those missing from the next list."""

    def __init__(self, on_secret: OnSecret) -> None:
        self._on_secret = on_secret
        self._names: dict[str, tuple[str, str]] = {}

    def report(self, meta: Meta, *, alive: bool) -> None:
        if alive:
            self._names[meta.uid] = (meta.namespace, meta.name)
        else:
            self._names.pop(meta.uid, None)
        try:
            self._on_secret(meta, alive)
        except Exception as error:  # noqa: BLE001 - an object that any user can create must not stop all others
            _log.error("Secret %s/%s: internal error: %s", meta.namespace, meta.name, type(error).__name__)

    def report_deleted(self, uids: AbstractSet[str]) -> None:
        for uid in self._names.keys() - uids:
            namespace, name = self._names[uid]
            self.report(Meta(name, namespace, uid, "0"), alive=False)


async def _list(api: ApiClient, path: str, selector: str, reported: _Reported) -> str:
    """List page by page: a single list of all objects would need most of the memory at startup."""
    uids = set[str]()
    remaining = ""
    while True:
        query = {"labelSelector": selector, "limit": _PAGE} | ({"continue": remaining} if remaining else {})
        response = await api.request("GET", path, query=query, accept=LIST)
        if response.status == HTTPStatus.GONE:
            return await _list(api, path, selector, reported)
        if response.is_error:
            raise UnavailableError("Unavailable", f"listing {path}: {response.message}")
        # The API server encodes an empty list as null.
        for item in msgspec.convert(response.body.get("items") or [], list[_Item]):
            uids.add(item.metadata.uid)
            reported.report(item.metadata, alive=True)
        metadata = msgspec.convert(response.body["metadata"], _Metadata)
        remaining = metadata.remaining
        if not remaining:
            reported.report_deleted(uids)
            return metadata.resource_version


async def _follow(api: ApiClient, path: str, selector: str, version: str, reported: _Reported) -> str:
    """Follow a watch until the server ends it; returns the resourceVersion to resume at, empty to list again."""
    query = {"labelSelector": selector, "watch": "true", "allowWatchBookmarks": "true",
             "resourceVersion": version, "timeoutSeconds": str(WATCH_SECONDS)}  # fmt: skip
    async for raw in api.watch(path, query):
        try:
            line = msgspec.json.decode(raw, type=_Line)
            header = msgspec.json.decode(line.object, type=_Any)
        except RecursionError:
            _log.warning("an object under %s is nested too deeply and is ignored", path)
            continue
        if line.type == "ERROR":
            if header.code == HTTPStatus.GONE:
                return ""
            raise UnavailableError("Unavailable", f"the watch ended with code {header.code}")
        version = header.metadata.resource_version
        if line.type != "BOOKMARK":
            reported.report(msgspec.json.decode(line.object, type=_Item).metadata, alive=line.type != "DELETED")
    return version
