"""Reads the API server's responses within a size limit, and checks that they contain what was requested."""

import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, Protocol

import msgspec

from keyturn.core.errors import MAX_SECRET_FIELDS, UnavailableError
from keyturn.exchanges.memory_limiter import LARGE_BYTES

_METADATA = "application/json;as={};g=meta.k8s.io;v=v1"
ONE = _METADATA.format("PartialObjectMetadata")
LIST = _METADATA.format("PartialObjectMetadataList")
# etcd stores at most 1.5 MiB of an object, and JSON writes one byte as up to six (`<` as \u003c).
MAX_BYTES = 10 * 2**20
_HEAD_BYTES = 2**16
_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>\w+)(?:/(?P<name>[^/]+)(?:/(?P<subresource>\w+))?)?"
)
_KINDS = {"secrets": "Secret", "configmaps": "ConfigMap", "events": "Event", "leases": "Lease",
          "tokenrequests": "TokenRequest"}  # fmt: skip
_NOT_DECODED = frozenset({"data", "binaryData", "managedFields", "ownerReferences"})
_HINT = "; check proxies between Keyturn and the API server"


class UnreadableBodyError(Exception):
    """A body is larger than its limit, or nested too deeply. `head` is its beginning."""

    def __init__(self, why: str, head: bytes = b"") -> None:
        super().__init__(why)
        self.head = head


class Content(Protocol):
    """The part of aiohttp's StreamReader that is used."""

    def iter_any(self) -> AsyncIterator[bytes]:
        """Yield what has arrived."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list. The items are decoded one by one: decoded at once, they can take twenty times their size."""

    items: tuple[msgspec.Raw, ...]
    version: str
    remaining: str


class _Kind(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """An event of a watch. Of its object, only the resourceVersion is decoded."""

    type: str
    object: msgspec.Raw
    version: int


class _Empty(msgspec.Struct, frozen=True):
    pass


class _ObjectMeta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _Object(_Kind, rename="camel"):
    metadata: _ObjectMeta
    data: _Empty | None = None


class _Cause(msgspec.Struct):
    reason: str = ""


class _Details(msgspec.Struct):
    causes: list[_Cause] | None = None


class _Status(msgspec.Struct):
    kind: Literal["Status"]
    message: str = ""
    details: _Details | None = None


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str
    remaining: str = msgspec.field(default="", name="continue")


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Error(msgspec.Struct):
    code: int = 0


class _Version(msgspec.Struct, rename="camel"):
    resource_version: str


class _Versioned(msgspec.Struct):
    metadata: _Version


class _List(_Kind, rename="camel"):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None  # the API server encodes an empty list as null


class _Issued(msgspec.Struct):
    token: Annotated[str, msgspec.Meta(min_length=1)]


class _Token(_Kind, rename="camel"):
    status: _Issued


class _User(msgspec.Struct):
    username: str = ""


class _UserInfo(msgspec.Struct, rename="camel"):
    user_info: _User


class _Named(msgspec.Struct):
    name: str


class _Groups(msgspec.Struct):
    groups: list[_Named]


class _Resources(msgspec.Struct):
    resources: list[_Named]


class _Review(_Kind, rename="camel"):
    status: _UserInfo


class _Allowed(msgspec.Struct):
    allowed: bool


class _AccessReview(_Kind, rename="camel"):
    status: _Allowed


async def _continue_at_once() -> None:
    pass


async def read_body(
    content: Content, limit: int = MAX_BYTES, before_large: Callable[[], Awaitable[None]] = _continue_at_once
) -> bytes:
    """Read a body. Raises UnreadableBodyError if it is larger than `limit` bytes.

    Once it is larger than LARGE_BYTES, `before_large` is awaited before the rest is read.
    """
    body = bytearray()
    is_large = False
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > limit:
            raise UnreadableBodyError(f"more than {limit} bytes", bytes(body[:_HEAD_BYTES]))
        if len(body) > LARGE_BYTES and not is_large:
            is_large = True
            await before_large()
    return bytes(body)


async def read_lines(
    content: Content, limit: int = MAX_BYTES, slot: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
) -> AsyncIterator[bytes]:
    """Yield the lines of a watch. Raises UnreadableBodyError at a line larger than `limit` bytes.

    Once a line is larger than LARGE_BYTES, `slot` is held until it has been handled. An incomplete last line is
    dropped, because the connection broke within it.
    """
    line, is_large = bytearray(), False
    async with AsyncExitStack() as until_handled:
        async for chunk in content.iter_any():
            pieces = io.BytesIO(chunk)
            del chunk  # may be large, and the next one may arrive much later
            while piece := pieces.readline():
                line += piece
                if len(line) > LARGE_BYTES and not is_large:
                    is_large = True
                    await until_handled.enter_async_context(slot())
                if len(line) > limit:
                    raise UnreadableBodyError(f"an event of more than {limit} bytes")
                if piece.endswith(b"\n"):
                    if line.strip():
                        yield bytes(line)
                    line.clear()
                    is_large = False
                    await until_handled.aclose()
            del pieces


def decode_object(
    method: str, path: str, query: Mapping[str, str], accept: str, *, is_error: bool, content: bytes
) -> dict[str, Any]:
    """Decode the object that was requested or, with `is_error`, a Status.

    Raises UnavailableError for anything else, such as the error page of a proxy, which shows neither that a write
    succeeded nor that an object does not exist. managedFields, ownerReferences and the data of a Secret or ConfigMap
    stay encoded, because a user can fill them with 200,000 items: see `select`.
    """
    expected = _STATUS if is_error else _expected(method, path, query, accept)
    try:
        if method == "DELETE" and msgspec.json.decode(content, type=_Kind).kind == "Status":
            expected = _STATUS
        expected.check(content)
        fields = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(fields.pop("metadata", b"{}"), type=dict[str, msgspec.Raw])
        body = {key: raw if key in _NOT_DECODED else msgspec.json.decode(raw) for key, raw in fields.items()}
        body["metadata"] = {
            key: raw if key in _NOT_DECODED else msgspec.json.decode(raw) for key, raw in metadata.items()
        }
    except RecursionError:
        raise UnavailableError("Unavailable", f"the response for {path} is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise UnavailableError("Unavailable", f"the response for {path} is not {expected}{_HINT}") from None
    return body


def select(data: msgspec.Raw | None, keys: Iterable[str]) -> dict[str, str]:
    """Decode the values of these keys of a Secret or ConfigMap. Keys that do not exist are missing from the result.

    Raises UnavailableError if a value is not text.
    """
    names = tuple(keys)
    if data is None or is_empty(data):
        return {}
    try:
        values = msgspec.structs.astuple(msgspec.json.decode(data, type=_selection(names)))
    except msgspec.DecodeError:
        raise UnavailableError("Unavailable", f"the API server returned data that is not text{_HINT}") from None
    return {name: value for name, value in zip(names, values, strict=True) if value is not msgspec.UNSET}


def is_empty(data: msgspec.Raw | None) -> bool:
    """Whether the data of a Secret or ConfigMap has no keys."""
    return data is None or bytes(data) in (b"{}", b"null")


def has_too_many_fields(secret: Mapping[str, Any]) -> bool:
    """Whether a Secret has so many keys, labels and other fields that each write takes the API server a long time.

    The API server compares the fields of each manager one by one. With 65,000 keys, a write takes it a second of CPU
    time, in which it serves other requests of the operator late.
    """
    metadata = secret["metadata"]
    texts = len(metadata.get("labels") or ()) + len(metadata.get("annotations") or ())
    keys = bytes(secret.get("data") or b"").count(b'":"')
    owners = bytes(metadata.get("ownerReferences") or b"").count(b'"uid":')
    managed = bytes(metadata.get("managedFields") or b"").count(b'":{')
    return texts + keys + owners + managed > MAX_SECRET_FIELDS


@lru_cache(maxsize=256)
def _selection(names: tuple[str, ...]) -> type[msgspec.Struct]:
    """Return a type with these fields. Skipping all others is forty times as fast as decoding them."""
    fields = [
        (f"key_{number}", str | msgspec.UnsetType, msgspec.field(name=name, default=msgspec.UNSET))
        for number, name in enumerate(names)
    ]
    return msgspec.defstruct("Selection", fields)


def list_kind(path: str, accept: str) -> tuple[str, str]:
    """Return apiVersion and kind of the list that a path returns."""
    expected = _expected("GET", path, {}, accept)
    return expected.api_version, expected.kind


def decode_page(content: bytes, api_version: str, kind: str) -> Page:
    """Decode a page of a list.

    Raises UnreadableBodyError if it is nested too deeply, and UnavailableError if it is not such a list.
    """
    try:
        page = msgspec.json.decode(content, type=_List)
    except RecursionError:
        raise UnreadableBodyError("nested too deeply", content[:_HEAD_BYTES]) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        page = None
    if page is None or (page.api_version, page.kind) != (api_version, kind):
        raise UnavailableError("Unavailable", f"the response is not a {kind}{_HINT}")
    return Page(tuple(page.items or ()), page.metadata.resource_version, page.metadata.remaining)


def decode_event(line: bytes) -> WatchEvent:
    """Decode a line of a watch. Raises UnavailableError if the event reports an error, and msgspec.DecodeError."""
    event = msgspec.json.decode(line, type=_Line)
    if event.type == "ERROR":
        code = msgspec.json.decode(event.object, type=_Error).code
        raise UnavailableError("Unavailable", f"the watch ended with code {code}")
    metadata = msgspec.json.decode(event.object, type=_Versioned).metadata
    return WatchEvent(event.type, event.object, int(metadata.resource_version))


def read_head(head: bytes, path: str, accept: str = LIST) -> tuple[Page, bytes]:
    """Return a page without items from the beginning of a list, and the beginning of its items."""
    metadata, _, items = head.partition(b',"items":[')
    try:
        return decode_page(metadata + b"}", *list_kind(path, accept)), items
    except UnreadableBodyError:
        raise UnavailableError("Unavailable", "the list has no readable metadata") from None


def object_name(beginning: bytes) -> str:
    """Return namespace and name of an object from its beginning: they come before all fields with free text."""
    names = (re.search(rb'"%s":"([^"]*)"' % key, beginning) for key in (b"namespace", b"name"))
    return "/".join(name[1].decode(errors="replace") for name in names if name)


@dataclass(frozen=True, slots=True)
class _Expected:
    """What a response must be. `is_stored`: the object has a uid and a resourceVersion."""

    schema: type[msgspec.Struct]
    api_version: str
    kind: str
    namespace: str | None = None
    name: str | None = None
    is_stored: bool = False

    def __str__(self) -> str:
        return f"the {self.kind} that was requested"

    def check(self, content: bytes) -> None:
        """Raise msgspec.DecodeError unless the content is this object."""
        if self.schema is not _Status and msgspec.json.decode(content, type=_Kind) != _Kind(
            self.api_version, self.kind
        ):
            raise msgspec.DecodeError("another kind")
        parsed = msgspec.json.decode(content, type=self.schema)
        if isinstance(parsed, _Object):
            meta = parsed.metadata
            is_same = (self.namespace or meta.namespace, self.name or meta.name) == (meta.namespace, meta.name)
            if not is_same or not meta.name or (self.is_stored and not (meta.uid and meta.resource_version)):
                raise msgspec.DecodeError("another object")


_STATUS = _Expected(_Status, "v1", "Status")
_AUTHENTICATION = "authentication.k8s.io/v1"
_OTHERS = {
    "/apis": _Expected(_Groups, "v1", "APIGroupList"),
    "token": _Expected(_Token, _AUTHENTICATION, "TokenRequest"),
    "selfsubjectreviews": _Expected(_Review, _AUTHENTICATION, "SelfSubjectReview"),
    "subjectaccessreviews": _Expected(_AccessReview, "authorization.k8s.io/v1", "SubjectAccessReview"),
}


def _expected(method: str, path: str, query: Mapping[str, str], accept: str) -> _Expected:
    """Return what a successful response to a request is."""
    if path in _OTHERS:
        return _OTHERS[path]
    match = _PATH.fullmatch(path)
    if not match:
        return _Expected(_Resources, "v1", "APIResourceList")
    group, version, namespace, plural, name, subresource = match.groups()
    if other := _OTHERS.get(subresource or plural):
        return other
    api_version, kind = f"{group}/{version}" if group else version, _KINDS[plural]
    if accept in (ONE, LIST):
        api_version, kind = "meta.k8s.io/v1", "PartialObjectMetadata"
    if not name and method == "GET":
        return _Expected(_List, api_version, f"{kind}List")
    return _Expected(_Object, api_version, kind, namespace, name, is_stored="dryRun" not in query)
