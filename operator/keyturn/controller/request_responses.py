"""Limits and checks the API server's responses about TokenRequests before kopf receives them."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol

import aiohttp
import msgspec

from keyturn.api.base import GROUP
from keyturn.api.status import MAX_RENEW_REQUEST_LENGTH, MAX_STATUS_BYTES
from keyturn.api.token_request import KIND, PLURAL, RENEW_REQUESTED, VERSION
from keyturn.api.validation import MAX_SPEC_BYTES, spec_bytes
from keyturn.controller.api_client import ApiClient, namespace_in
from keyturn.controller.object_list import PageSize, read_empty_page, was_restored
from keyturn.controller.response_body import (
    Page,
    UnreadableBodyError,
    WatchEvent,
    decode_event,
    decode_page,
    read_body,
    read_lines,
)
from keyturn.controller.response_content import Body, Lines
from keyturn.controller.streams import LONGEST_PAUSE_SECONDS, LONGEST_RECONNECT_SECONDS, Backoff, Boundary, Breaks
from keyturn.core.errors import UnavailableError

# Custom resources are stored as JSON, in at most 1.5 MiB. Python's dictionaries take up to ten times as much.
_MAX_BYTES = 4 * 2**20
_MAX_ERROR_BYTES = 2**16
# The time limit for the headers of a page, and again for its body; after a timeout, it is longer for the rest of the
# list. With kopf's own timeout, a connection that hangs would delay all renewals after a start by five minutes.
_PAGE_SECONDS, _LONGEST_PAGE_SECONDS = 10, 50
_API_VERSION = f"{GROUP}/{VERSION}"
# At this event, kopf lists all objects again.
_EXPIRED = b'{"type":"ERROR","object":{"code":410}}\n'
# kopf resumes a watch at the version of the last line.
_BOOKMARK = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"%d"}}}\n'
# The paths that kopf reads to find the resource, with what each of them must list.
_SEARCHES = {"/apis": GROUP, f"/apis/{GROUP}/{VERSION}": PLURAL}
# kopf retries a 403 and a 5xx like a lost connection. A 404 is a correct response to its search for resources.
_PASSED_ON = (HTTPStatus.OK, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)


class OnRequest(Protocol):
    """Receives each TokenRequest."""

    def __call__(self, body: dict[str, Any], *, alive: bool) -> Awaitable[None]:
        """Handle a TokenRequest that exists, has changed or was deleted."""


class OnRequestList(Protocol):
    """Receives the uids of a full list."""

    def __call__(self, uids: AbstractSet[str], namespace: str) -> None:
        """Handle a full list of one namespace, or of all if `namespace` is empty: all other requests were deleted."""


class _Annotations(msgspec.Struct, omit_defaults=True):
    """The only annotation that is used. Decoding 65,000 others would take 24 ms."""

    renew_requested: str = msgspec.field(default="", name=RENEW_REQUESTED)


class _Metadata(msgspec.Struct, rename="camel", omit_defaults=True):
    name: str
    namespace: str
    uid: str
    resource_version: str
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    annotations: _Annotations = msgspec.field(default_factory=_Annotations)


class _Request(msgspec.Struct, rename="camel", omit_defaults=True):
    metadata: _Metadata
    api_version: str = ""
    kind: str = ""
    spec: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    # The size of a spec that takes too much memory. It replaces the spec, which kopf would keep.
    spec_bytes: int = 0
    status: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Head(msgspec.Struct):
    metadata: _Metadata


class _Status(msgspec.Struct):
    message: str = ""


class _Named(msgspec.Struct):
    name: str


class _Listed(msgspec.Struct):
    groups: list[_Named] = []
    resources: list[_Named] = []


class RequestResponses:
    """Middleware for the API server's responses about TokenRequests.

    Without it, kopf would keep entire objects in memory, and end at an unexpected response, or watch nothing if it does
    not find the resource when it starts. The middleware passes on only the fields that are used, and requests lists in
    pages that are small enough. A 404, which is returned while the CRD does not exist, becomes a lost connection, which
    kopf retries. After an unexpected response, and after etcd was restored from a backup, it makes kopf list all
    objects again. kopf does not report which objects are missing from such a list, so the middleware calls `on_list`.

    The requests of a namespace are listed after its Secrets, because the issuance record on a Secret decides whether
    its request is due. A namespace whose Secrets cannot be listed does not delay others.

    The objects of lists and watches go directly to `on_request`. kopf receives none of them, because it would take too
    long for many of them (docs/design/decisions/0004-kopf-on-our-connection.md). A change of an object whose metadata
    `is_known`, such as our own write of its status, is ignored.
    """

    def __init__(
        self,
        api: ApiClient,
        on_request: OnRequest,
        on_list: OnRequestList,
        boundary: Boundary,
        secrets_listed: Callable[[str], Awaitable[None]] = lambda _: asyncio.sleep(0),
        is_known: Callable[[Mapping[str, Any]], bool] = lambda _: False,
    ) -> None:
        self._api = api
        self.on_request = on_request
        self._on_list = on_list
        self._secrets_listed = secrets_listed
        self._is_known = is_known
        self.boundary = boundary
        self._unlisted = f"{PLURAL}.{GROUP} have not been listed yet"
        self._page_size = PageSize()
        # The paths whose last list timed out.
        self._slow: set[str] = set()
        self._uids: dict[str, set[str]] = {}
        self._versions: defaultdict[str, int] = defaultdict(int)
        # The paths to list again, because etcd was restored or an event was ignored.
        self._outdated: set[str] = set()
        self._incomplete: set[str] = set()
        self._backoffs: defaultdict[str, Backoff] = defaultdict(Backoff)
        # The longest pause before the next request, by path: a watch that ends at once must not be requested in a loop.
        self._pauses: dict[str, float] = {}

    def unlisted(self) -> str:
        """Return why there has been no full list yet, or ""."""
        return self._unlisted

    def on_restored(self) -> None:
        """List all objects again, at the latest when the current watch ends: etcd was restored from a backup."""
        self._outdated.update(self._versions)

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.headers["Accept-Encoding"] = "identity"
        path = request.url.path
        if path in _SEARCHES:
            return await _search(request, handler, _SEARCHES[path])
        if not path.endswith(f"/{PLURAL}"):
            return _checked(await handler(request))
        if longest := self._pauses.pop(path, 0.0):
            await asyncio.sleep(self._backoffs[path].next_pause(longest))
        try:
            return await (self._watch if "watch" in request.url.query else self._list)(request, handler)
        except (UnavailableError, UnreadableBodyError, msgspec.DecodeError, ValueError) as error:
            self._unlisted = self._unlisted and str(error)
            self._pauses[path] = self.boundary.report(error)
            # To kopf this is a broken response: it ends the list, and a watch that is in progress is requested again.
            raise aiohttp.ClientPayloadError(str(error)) from None

    async def _list(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        path = request.url.path
        await self._secrets_listed(namespace_in(path))
        while True:
            request.url = request.url.update_query(limit=self._page_size.value)
            async with self._limited(path):
                response = await handler(request)
            if response.status != HTTPStatus.OK:
                return await self._refused(response)
            async with AsyncExitStack() as until_handled:
                page = await self._read_page(request, response, until_handled)
                if page is None:
                    continue
                items = list(self._read_all(page))
                await self._collect(path, page, items, first="continue" not in request.url.query)
            body = {"apiVersion": _API_VERSION, "kind": f"{KIND}List", "items": [],
                    "metadata": {"resourceVersion": page.version, "continue": page.remaining}}  # fmt: skip
            response.content = Body(msgspec.json.encode(body))
            return response

    async def _read_page(
        self, request: aiohttp.ClientRequest, response: aiohttp.ClientResponse, until_handled: AsyncExitStack
    ) -> Page | None:
        """Read a page, or return None if a smaller one must be requested. A large one holds a slot `until_handled`."""
        path, query = request.url.path, request.url.query
        slot = self._api.stream_limiter.slot(namespace_in(path))
        try:
            async with self._limited(path):
                before_large = partial(until_handled.enter_async_context, slot)
                content = await read_body(response.content, _MAX_BYTES, before_large)
            page = decode_page(content, _API_VERSION, f"{KIND}List")
        except TimeoutError:
            response.close()
            raise
        except UnreadableBodyError as error:
            response.close()
            # Not `_page_size`, which the lists of other namespaces may have changed since this page was requested.
            if query["limit"] == "1":
                return await read_empty_page(self._api, path, query.get("continue", ""), str(error))
            self._page_size.shrink()
            return None
        self._page_size.grow()
        return page

    @contextlib.asynccontextmanager
    async def _limited(self, path: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_LONGEST_PAGE_SECONDS if path in self._slow else _PAGE_SECONDS):
                yield
        except TimeoutError:
            self._slow.add(path)
            raise

    def _read_all(self, page: Page) -> Iterator[_Request]:
        for item in page.items:
            try:
                yield _read(item)
            except (RecursionError, msgspec.DecodeError) as error:
                # One object must not hide all others.
                self.boundary.report(error)

    async def _collect(self, path: str, page: Page, items: list[_Request], *, first: bool) -> None:
        breaks = Breaks()
        for item in items:
            await self._handle(item, alive=True)
            # A page of 500 objects must not delay renewals.
            await breaks.take()
        uids = self._uids.pop(path, set()) if not first else set()
        uids |= {item.metadata.uid for item in items}
        if page.remaining:
            self._uids[path] = uids
        else:
            self._on_list(uids, namespace_in(path))
            self._versions[path] = int(page.version)
            for paths in (self._outdated, self._incomplete, self._slow):
                paths.discard(path)
            self._unlisted = ""

    async def _watch(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        path = request.url.path
        is_restored = path in self._outdated or await was_restored(self._api, path, self._versions[path])
        if is_restored:
            # Until there is a list: the watch may be refused while the API server starts, and kopf repeats only that.
            self._outdated.add(path)
            self._on_list(frozenset(), namespace_in(path))
        response = await handler(request)
        if response.status in (HTTPStatus.GONE, HTTPStatus.BAD_REQUEST):
            # The version has expired, or means nothing to this API server.
            response.close()
            # kopf lists again only after an event of a watch, so a response that contains one is needed.
            request.url = request.url.with_query(limit=1)
            response, is_restored = await handler(request), True
        if response.status != HTTPStatus.OK:
            return await self._refused(response)
        self._pauses[path] = LONGEST_PAUSE_SECONDS
        lines = _expired() if is_restored or path in self._incomplete else self._events(path, response.content)
        response.content = Lines(lines, response.content)
        return response

    async def _events(self, path: str, content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
        breaks = Breaks()
        try:
            slot = partial(self._api.stream_limiter.slot, namespace_in(path))
            async for line in read_lines(content, _MAX_BYTES, slot):
                # Hundreds of events can arrive at once.
                await breaks.take()
                try:
                    event, item = self._translate(line)
                except RecursionError as error:
                    # As in SecretWatch, a deeply nested object must not end the watch. The next list omits it.
                    self.boundary.report(error)
                    self._incomplete.add(path)
                    continue
                finally:
                    del line  # may be large, and the next one may arrive much later
                if event.version < self._versions[path]:
                    if event.type == "BOOKMARK":
                        continue
                    return  # etcd may have been restored: the next watch begins with a check.
                self._versions[path] = event.version
                await self._handle(item, alive=event.type != "DELETED")
                yield _BOOKMARK % event.version
                del event, item
            if path in self._incomplete:
                yield _EXPIRED
        except (aiohttp.ClientError, OSError):
            # A proxy may cut each connection that is silent for a few seconds.
            self._pauses[path] = LONGEST_RECONNECT_SECONDS
            raise
        except Exception as error:  # noqa: BLE001 - no input ends the process
            self.boundary.report(error)
            yield _EXPIRED

    def _translate(self, line: bytes) -> tuple[WatchEvent, _Request | None]:
        """Return an event, and its object unless nothing that is used has changed."""
        event = decode_event(line)
        metadata = msgspec.json.decode(event.object, type=_Head).metadata if event.type == "MODIFIED" else None
        is_unused = event.type == "BOOKMARK" or (metadata and self._is_known(msgspec.to_builtins(metadata)))
        return event, None if is_unused else _read(event.object)

    async def _handle(self, item: _Request | None, *, alive: bool) -> None:
        if item is None:
            return
        try:
            await self.on_request(msgspec.json.decode(msgspec.json.encode(item)), alive=alive)
        except Exception as error:  # noqa: BLE001 - one object must not hide all others
            self.boundary.report(error)

    async def _refused(self, response: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
        """Return an error response to kopf, which retries most of them."""
        if response.status == HTTPStatus.NOT_FOUND:
            response.release()
            raise aiohttp.ClientConnectionError(f"{PLURAL}.{GROUP}: HTTP 404")
        if response.status == HTTPStatus.GONE:
            response.release()
            # kopf would request the same page again after a lost connection.
            raise UnavailableError("Unavailable", f"listing {PLURAL}.{GROUP}: the list expired before its last page")
        body = await read_body(response.content, _MAX_ERROR_BYTES)
        problem = f"HTTP {response.status}"
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            problem = msgspec.json.decode(body, type=_Status).message or problem
        self._unlisted = self._unlisted and f"listing {PLURAL}.{GROUP}: {problem}"
        response.content = Body(body)
        return _checked(response)


def _checked(response: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
    """Return the response. Raises ClientConnectionError if kopf would not simply send the request again within seconds.

    After a 401, kopf would log in again and again without a pause. It would wait as long as a 429 requires, even for
    days, follow a redirect, and end at most other errors. After a lost connection, it sends the request again within
    five seconds.
    """
    if response.status not in _PASSED_ON and response.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        response.release()
        raise aiohttp.ClientConnectionError(f"the API server returned HTTP {response.status}")
    return response


async def _search(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType, name: str
) -> aiohttp.ClientResponse:
    """Return the response to kopf's search for resources. Raises ClientConnectionError if it does not list `name`.

    kopf searches only when it starts, and never watches a resource that is missing then. While an API server starts, or
    if there are several, a CRD that one of them serves may be missing from the next response.
    """
    response = _checked(await handler(request))
    try:
        body = await read_body(response.content)
        listed = msgspec.json.decode(body, type=_Listed)
    except (UnreadableBodyError, msgspec.DecodeError, RecursionError):
        listed = _Listed()
    if _Named(name) not in (*listed.groups, *listed.resources):
        response.close()
        raise aiohttp.ClientConnectionError(f"{request.url.path} does not list {name} yet")
    response.content = Body(body)
    return response


async def _expired() -> AsyncIterator[bytes]:
    yield _EXPIRED


def _read(raw: msgspec.Raw) -> _Request:
    """Decode only the fields of a TokenRequest that are used."""
    request = msgspec.json.decode(raw, type=_Request)
    request.spec_bytes = 0
    if isinstance(request.spec, msgspec.Raw) and len(request.spec) > MAX_SPEC_BYTES // 4:
        size = spec_bytes(msgspec.json.decode(request.spec))
        if size > MAX_SPEC_BYTES:
            request.spec, request.spec_bytes = msgspec.UNSET, size
    if isinstance(request.status, msgspec.Raw) and len(request.status) > MAX_STATUS_BYTES:
        request.status = msgspec.UNSET
    annotations = request.metadata.annotations
    annotations.renew_requested = annotations.renew_requested[:MAX_RENEW_REQUEST_LENGTH]
    return request
