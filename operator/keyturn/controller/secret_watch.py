"""Watches the metadata of Secrets only, so that their values never reach this process."""

import asyncio
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from http import HTTPStatus

import aiohttp
import msgspec

from keyturn.controller.api_client import WATCH_SECONDS, ApiClient
from keyturn.controller.object_list import PageSize, list_pages, was_restored
from keyturn.controller.response_body import Page, decode_event, select
from keyturn.controller.streams import LONGEST_PAUSE_SECONDS, Backoff, Boundary, Breaks
from keyturn.core.errors import UnavailableError
from keyturn.core.issuance import ADOPTABLE_BY, ISSUANCE_ANNOTATION, MANAGED_BY, OWNER_UID
from keyturn.core.token_family import TOKEN_FAMILY_ANNOTATION

OnSecret = Callable[["SecretMeta", bool], None]
OUR_NAMES = frozenset({ISSUANCE_ANNOTATION, ADOPTABLE_BY, MANAGED_BY, OWNER_UID, TOKEN_FAMILY_ANNOTATION})
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# The limit for labels, annotations and owners, in bytes of memory.
_MAX_METADATA = 2**15
_TEXT_OVERHEAD = 100
_MAX_MANAGERS = 16
_UNKNOWN_VERSION = (HTTPStatus.GONE, HTTPStatus.BAD_REQUEST)
_LARGE_BYTES = 128 * 1024


class Owner(msgspec.Struct, frozen=True):
    """An owner reference."""

    uid: str


class _Empty(msgspec.Struct, frozen=True):
    pass


class _DataFields(msgspec.Struct, frozen=True):
    data: dict[str, _Empty] = msgspec.field(default_factory=dict, name="f:data")
    string_data: dict[str, _Empty] = msgspec.field(default_factory=dict, name="f:stringData")


class ManagedFields(msgspec.Struct, frozen=True, rename="camel"):
    """An entry of managedFields: a field manager, and the keys of a Secret's data that it owns."""

    manager: str = ""
    fields_v1: _DataFields = msgspec.field(default_factory=_DataFields, name="fieldsV1")

    @property
    def is_ours(self) -> bool:
        """Whether this is the manager of a TokenRequest; anyone may choose such a name."""
        return self.manager.startswith("keyturn-")

    def data_keys(self) -> frozenset[str]:
        """Return the keys of a Secret's data that this manager owns."""
        return _names(self.fields_v1.data)

    def string_data_keys(self) -> frozenset[str]:
        """Return the keys that this manager has applied with stringData.

        The API server writes them to the data, but the manager that owned such a key there remains its owner.
        """
        return _names(self.fields_v1.string_data)


def _names(fields: Iterable[str]) -> frozenset[str]:
    return frozenset(key[2:] for key in fields if key.startswith("f:"))


class SecretMeta(msgspec.Struct, frozen=True, rename="camel"):
    """The fields of a Secret's metadata that are read."""

    name: str
    namespace: str
    uid: str
    resource_version: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[Owner, ...] = ()
    managed_fields: tuple[ManagedFields, ...] = ()
    is_partial: bool = False

    def keys_of(self, manager: str) -> frozenset[str]:
        """Return the keys of the Secret's data that this manager owns, and no other one."""
        ours = frozenset[str]().union(*(it.data_keys() for it in self.managed_fields if it.manager == manager))
        return ours.difference(*(it.data_keys() for it in self.managed_fields if it.manager != manager))

    def string_data_keys(self) -> frozenset[str]:
        """Return the keys that any manager has applied with stringData."""
        return frozenset[str]().union(*(it.string_data_keys() for it in self.managed_fields))

    def bounded(self, names: AbstractSet[str] = frozenset()) -> "SecretMeta":
        """Return the metadata to cache. If they are too large, that is only what Keyturn writes and what `names` lists.

        Otherwise anyone who may write a Secret could fill the memory that all namespaces share. A partial result must
        be read again before it is used.
        """
        kept = {**self.labels, **self.annotations}
        kept.pop(_LAST_APPLIED, None)
        managers = [fields for fields in self.managed_fields if fields.is_ours]
        texts = (*kept, *kept.values(), *(it.uid for it in self.owner_references), *(it.manager for it in managers))
        if sum(map(_bytes_in_memory, texts)) <= _MAX_METADATA:
            return self
        names = names | OUR_NAMES
        others = [fields for fields in self.managed_fields if not fields.is_ours]
        return msgspec.structs.replace(
            self,
            labels={key: value for key, value in self.labels.items() if key in names},
            annotations={
                key: value
                for key, value in self.annotations.items()
                if key in names and _bytes_in_memory(value) <= _MAX_METADATA
            },
            owner_references=tuple(owner for owner in self.owner_references if owner.uid in names)[:1],
            managed_fields=(*managers[:_MAX_MANAGERS], *others),
            is_partial=True,
        )


def _bytes_in_memory(text: str) -> int:
    # Python needs four bytes for each character if one of them is an emoji, and some bytes for each text.
    return (len(text) if text.isascii() else 4 * len(text)) + _TEXT_OVERHEAD


class _Item(msgspec.Struct, frozen=True):
    metadata: SecretMeta


class _Manager(msgspec.Struct, frozen=True):
    manager: str = ""


class _LargeMeta(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    namespace: str
    uid: str
    resource_version: str
    labels: msgspec.Raw = msgspec.Raw(b"null")
    annotations: msgspec.Raw = msgspec.Raw(b"null")
    managed_fields: tuple[_Manager, ...] = ()


class _LargeItem(msgspec.Struct, frozen=True):
    metadata: _LargeMeta


def read_item(raw: msgspec.Raw) -> SecretMeta:
    """Return the metadata of an object, as they are cached.

    Of a large object, only the labels and annotations that Keyturn writes are decoded: 150,000 labels would take 20 MiB
    and 30 ms. Raises msgspec.DecodeError, RecursionError and UnavailableError.
    """
    if len(raw) <= _LARGE_BYTES:
        return msgspec.json.decode(raw, type=_Item).metadata.bounded()
    meta = msgspec.json.decode(raw, type=_LargeItem).metadata
    names = sorted(OUR_NAMES)
    return SecretMeta(
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        resource_version=meta.resource_version,
        labels=select(meta.labels, names),
        annotations=select(meta.annotations, names),
        managed_fields=tuple(ManagedFields(manager=it.manager) for it in meta.managed_fields),
        is_partial=True,
    ).bounded()


class SecretWatch:
    """Calls `on_secret(metadata, alive)` for each object with the labels of `selector`, and for each change.

    `listed` is set after the first list.
    """

    def __init__(self, api: ApiClient, path: str, selector: str, on_secret: OnSecret, boundary: Boundary) -> None:
        self._api = api
        self._path = path
        self._selector = selector
        self._on_secret = on_secret
        self._boundary = boundary
        self._page_size = PageSize()
        self._version = 0
        self._is_outdated = False
        # An event was ignored, so the objects must be listed again, at the latest when the current watch ends.
        self._is_incomplete = False
        # The objects that were reported, to detect those that are missing from the next list.
        self._reported: dict[str, tuple[str, str]] = {}
        self.listed = asyncio.Event()
        self._problem = f"{path} has not been listed yet"

    def unlisted(self) -> str:
        """Return why there has been no list yet, or ""."""
        return "" if self.listed.is_set() else self._problem

    def on_restored(self) -> None:
        """List all objects again, at the latest when the current watch ends: etcd was restored from a backup."""
        self._is_outdated = True

    async def run(self) -> None:
        """Watch until cancelled. A broken watch is resumed; after any other error, all objects are listed again.

        Missed deletions are reported after the list.
        """
        backoff = Backoff()
        while True:
            longest_pause = LONGEST_PAUSE_SECONDS
            try:
                if self._version and (self._is_outdated or await was_restored(self._api, self._path, self._version)):
                    self._version, self._is_outdated = 0, False
                    self._report_deleted(set())
                if not self._version or self._is_incomplete:
                    await self._list()
                    self.listed.set()
                await self._follow()
            except Exception as error:  # noqa: BLE001 - no input ends the process
                self._problem = str(error) if isinstance(error, UnavailableError) else self._problem
                longest_pause = self._boundary.report(error)
                # The version has expired, or means nothing to this API server.
                is_gone = isinstance(error, aiohttp.ClientResponseError) and error.status in _UNKNOWN_VERSION
                if is_gone or not isinstance(error, aiohttp.ClientError | OSError):
                    self._version = 0
            await asyncio.sleep(backoff.next_pause(longest_pause))

    async def _list(self) -> None:
        uids, version = set[str](), 0
        async for page in list_pages(self._api, self._path, self._selector, self._page_size):
            uids |= await self._report_page(page)
            version = int(page.version)
            del page  # may be large, and the next one may arrive much later
        self._report_deleted(uids)
        self._version, self._is_incomplete = version, False

    async def _report_page(self, page: Page) -> set[str]:
        """Report each object of a page, and return their uids."""
        uids, breaks = set[str](), Breaks()
        for raw in page.items:
            try:
                meta = read_item(raw)
            except (RecursionError, msgspec.DecodeError, UnavailableError) as error:
                # One object must not hide all others.
                self._boundary.report(error)
                continue
            uids.add(meta.uid)
            self._report(meta, alive=True)
            await breaks.take()
        return uids

    async def _follow(self) -> None:
        """Follow the watch until the server ends it."""
        query = {"labelSelector": self._selector, "watch": "true", "allowWatchBookmarks": "true",
                 "resourceVersion": str(self._version), "timeoutSeconds": str(WATCH_SECONDS)}  # fmt: skip
        breaks = Breaks()
        async for line in self._api.watch(self._path, query):
            try:
                is_in_order = self._handle(line)
            except RecursionError as error:
                # Anyone who may write an object can nest it this deeply. If each change of it ended the watch, the
                # changes of all other objects would wait for the next one, up to 30 s. The next list omits it.
                self._boundary.report(error)
                self._is_incomplete = is_in_order = True
            del line  # may be large, and the next one may arrive much later
            if not is_in_order:
                return  # etcd may have been restored.
            # Hundreds of events can arrive at once.
            await breaks.take()

    def _handle(self, line: bytes) -> bool:
        """Handle an event. Returns False if its resourceVersion is lower than that of an earlier one."""
        event = decode_event(line)
        if event.type == "BOOKMARK":
            self._version = max(self._version, event.version)
            return True
        if event.version < self._version:
            return False
        meta = read_item(event.object)
        self._version = event.version
        self._report(meta, alive=event.type != "DELETED")
        return True

    def _report(self, meta: SecretMeta, *, alive: bool) -> None:
        if alive:
            self._reported[meta.uid] = (meta.namespace, meta.name)
        else:
            self._reported.pop(meta.uid, None)
        try:
            self._on_secret(meta, alive)
        except Exception as error:  # noqa: BLE001 - an object that any user can create must not hide all others
            self._boundary.report(error)

    def _report_deleted(self, uids: set[str]) -> None:
        for uid in self._reported.keys() - uids:
            namespace, name = self._reported[uid]
            self._report(SecretMeta(name, namespace, uid, "0"), alive=False)
