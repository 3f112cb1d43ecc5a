"""A watch of metadata only: the values of Secrets never sit in this process's memory because of it."""

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
_SAY_AGAIN_SECONDS = 60

_log = logging.getLogger(__name__)

See = Callable[["Meta", bool], None]


class Owner(msgspec.Struct, frozen=True):
    """An owner reference."""

    uid: str


class Fields(msgspec.Struct, frozen=True, rename="camel"):
    """Who manages which fields of an object."""

    manager: str = ""
    fields_v1: dict[str, Any] = msgspec.field(default_factory=dict, name="fieldsV1")

    def data_keys(self) -> frozenset[str]:
        """The keys of a Secret's data that this manager owns."""
        return frozenset(key[2:] for key in self.fields_v1.get("f:data", {}) if key.startswith("f:"))


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """The metadata of a Secret, as far as it is read."""

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


async def watch(api: ApiClient, path: str, selector: str, see: See, listed: asyncio.Event) -> None:
    """Tell `see(metadata, alive)` of every object there is and of every change, for ever.

    `listed` is set once the first list has been told. What vanished while the watch was cut is told as not
    alive after the next list. Breaks are mended from where the watch was; a version that is gone is listed anew.
    """
    told, version, complaint = _Told(see), "", ("", 0.0)
    while True:
        try:
            if not version:
                version = await _list(api, path, selector, told)
                listed.set()
            version = await _follow(api, path, selector, version, told)
        except (UnavailableError, aiohttp.ClientError, TimeoutError, OSError) as error:
            status = getattr(error, "status", 0)
            version = "" if status == HTTPStatus.GONE else version
            kind = f"HTTP {status}" if status else type(error).__name__
            why = str(error) if isinstance(error, UnavailableError) else kind
            complaint = _complain(path, why, complaint)
            await asyncio.sleep(_PAUSE_SECONDS)


def _complain(path: str, why: str, last: tuple[str, float]) -> tuple[str, float]:
    """Log why a watch broke, the same once a minute: without a right it breaks each second."""
    now = asyncio.get_running_loop().time()
    if why == last[0] and now - last[1] < _SAY_AGAIN_SECONDS:
        return last
    _log.warning("the watch of %s broke (%s); it goes on", path, why)
    return why, now


class _Told:
    """Who has been told of, so that a list can say who is gone."""

    def __init__(self, see: See) -> None:
        self._see = see
        self._names: dict[str, tuple[str, str]] = {}

    def one(self, meta: Meta, *, alive: bool) -> None:
        if alive:
            self._names[meta.uid] = (meta.namespace, meta.name)
        else:
            self._names.pop(meta.uid, None)
        try:
            self._see(meta, alive)
        except Exception as error:  # noqa: BLE001 - anybody may make such an object: it must not stop all others
            _log.error("Secret %s/%s: a bug: %s", meta.namespace, meta.name, type(error).__name__)

    def no_others(self, uids: AbstractSet[str]) -> None:
        for uid in self._names.keys() - uids:
            namespace, name = self._names[uid]
            self.one(Meta(name, namespace, uid, "0"), alive=False)


async def _list(api: ApiClient, path: str, selector: str, told: _Told) -> str:
    """Tell a page at a time: all of them at once would be most of the memory that a start takes."""
    uids = set[str]()
    remaining = ""
    while True:
        query = {"labelSelector": selector, "limit": _PAGE} | ({"continue": remaining} if remaining else {})
        response = await api.request("GET", path, query=query, accept=LIST)
        if response.status == HTTPStatus.GONE:
            return await _list(api, path, selector, told)
        if response.refused:
            raise UnavailableError("Unavailable", f"listing {path}: {response.message}")
        # An empty list of a typed API comes as null.
        for item in msgspec.convert(response.body.get("items") or [], list[_Item]):
            uids.add(item.metadata.uid)
            told.one(item.metadata, alive=True)
        metadata = msgspec.convert(response.body["metadata"], _Metadata)
        remaining = metadata.remaining
        if not remaining:
            told.no_others(uids)
            return metadata.resource_version


async def _follow(api: ApiClient, path: str, selector: str, version: str, told: _Told) -> str:
    """Follow a watch until the server ends it; returns the version to go on from, empty to list anew."""
    query = {"labelSelector": selector, "watch": "true", "allowWatchBookmarks": "true",
             "resourceVersion": version, "timeoutSeconds": str(WATCH_SECONDS)}  # fmt: skip
    async for raw in api.watch(path, query):
        try:
            line = msgspec.json.decode(raw, type=_Line)
            seen = msgspec.json.decode(line.object, type=_Any)
        except RecursionError:
            _log.warning("an object under %s is nested too deeply to be read; it is passed over", path)
            continue
        if line.type == "ERROR":
            if seen.code == HTTPStatus.GONE:
                return ""
            raise UnavailableError("Unavailable", f"the watch ended with code {seen.code}")
        version = seen.metadata.resource_version
        if line.type != "BOOKMARK":
            told.one(msgspec.json.decode(line.object, type=_Item).metadata, alive=line.type != "DELETED")
    return version
