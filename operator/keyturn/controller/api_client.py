"""Requests to the API server, without the Kubernetes client's models, which cost more than the rest of a renewal."""

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio.client import ApiClient as KubernetesClient
from kubernetes.aio.config import ConfigException

from keyturn.api.base import GROUP
from keyturn.api.token_request import PLURAL, VERSION
from keyturn.controller.ca_file import trust_new_ca
from keyturn.controller.response_body import (
    LIST,
    MAX_BYTES,
    ONE,
    Page,
    UnreadableBodyError,
    decode_object,
    decode_page,
    list_kind,
    read_body,
    read_lines,
)
from keyturn.core.errors import LeaseLostError, NamespaceTerminatingError, RefusedError, UnavailableError, drop_frames
from keyturn.core.service_health import ServiceHealth
from keyturn.exchanges.cpu_limiter import CpuLimiter
from keyturn.exchanges.memory_limiter import LARGE_BYTES, MemoryLimiter

_Decoded = TypeVar("_Decoded")
# The API server's name in ServiceHealth. Issuers go by their host names there, so it must not be a valid one.
SYSTEM = "the API server"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON = "application/json"
_PAUSES = (0.2, 1.0)
_TIMEOUT_SECONDS = 10
# After a timeout. The API server ends a write after 34 s, so admission webhooks may take that long, and a list after
# 60 s: to find the objects with a label, it may have to read all objects of the cluster.
_LONGEST_WRITE_SECONDS, _LONGEST_LIST_SECONDS = 40, 65
# Short, because each watch starts with a check that etcd was not restored.
WATCH_SECONDS = 60
# Only for dead connections: the server ends a watch earlier than this.
_WATCH_TIMEOUT = aiohttp.ClientTimeout(total=WATCH_SECONDS + 30, sock_connect=10, sock_read=90)
_OK = range(200, 300)
_PIECE = re.compile(r'[^\s"\\,:]{8,}')
# The lengths of short pieces, of which a Secret can have very many.
_SHORT = range(8, 33)
_START = re.compile(r'.{0,2000}(?=[\s"\\,:]|\Z)', re.DOTALL)
# The API server parses an apply as YAML, which forbids some of these characters and folds others as line ends.
_NOT_IN_YAML = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9]|\xef\xbf[\xbe\xbf]")
# A page or an event takes up to three times MAX_BYTES; a namespaced installation has three watches for each namespace.
_STREAM_SLOTS, _LONGEST_MESSAGE = 4, 4096
_TEMPORARY = (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A response: the HTTP status and the body, an object or a Status. Its `data` is still encoded: see `select`."""

    status: int
    body: dict[str, Any] = field(repr=False)

    @property
    def message(self) -> str:
        """The start of the message of a Status. A proxy may return several MB, which each failure would keep."""
        return str(self.body.get("message", f"HTTP {self.status}"))[:_LONGEST_MESSAGE]

    @property
    def is_found(self) -> bool:
        """Whether the status is not 404."""
        return self.status != HTTPStatus.NOT_FOUND

    @property
    def is_error(self) -> bool:
        """Whether the status is not a success."""
        return self.status not in _OK


class ForbiddenError(UnavailableError):
    """The operator lacks the right to list."""


class _NoResponseError(UnavailableError):
    """The API server did not respond in time. It may need longer."""


def secrets_path(namespace: str, name: str = "") -> str:
    """Return the path of a Secret, of all Secrets in a namespace or, if that is empty, in all namespaces."""
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"/api/v1{place}/secrets" + (f"/{name}" if name else "")


def token_request_path(namespace: str, name: str) -> str:
    """Return the path of a TokenRequest."""
    return f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}/{name}"


def namespace_in(path: str) -> str:
    """Return the namespace in the path of an object or a list, or ""."""
    return path.partition("/namespaces/")[2].partition("/")[0]


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes | None = field(default=None, repr=False)
    is_list: bool = False
    limit: int = MAX_BYTES
    until_handled: AsyncExitStack | None = None
    should_retry: bool = True

    @property
    def longest_seconds(self) -> float:
        if self.is_list:
            return _LONGEST_LIST_SECONDS
        return _TIMEOUT_SECONDS if self.method == "GET" else _LONGEST_WRITE_SECONDS


class ApiClient:
    """A client of one API server. `request` writes only to paths that `may_write` allows; `save` always writes."""

    def __init__(
        self,
        client: KubernetesClient,
        service_health: ServiceHealth,
        may_write: Callable[[str], bool] = lambda _: True,
        cpu_limiter: CpuLimiter | None = None,
        memory_limiter: MemoryLimiter | None = None,
    ) -> None:
        self._client = client
        self._service_health = service_health
        self.may_write = may_write
        # Large bodies are encoded and decoded one at a time, and few are read at a time: each worker may have one.
        self._cpu_limiter = cpu_limiter or CpuLimiter()
        self._memory_limiter = memory_limiter or MemoryLimiter()
        # For lists and watches. They have slots of their own, so that renewals do not wait for them.
        self.stream_limiter = MemoryLimiter(_STREAM_SLOTS)

    async def request(  # noqa: PLR0913 - they are independent
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        kind: str = JSON,
        query: Mapping[str, str] | None = None,
        accept: str = JSON,
        should_retry: bool = True,
    ) -> ApiResponse:
        """Send an idempotent request.

        After a 429, a 5xx, no response, or one that is neither the requested object nor a Status, it is sent up to
        twice more (`should_retry`); then UnavailableError is raised. The meaning of a Status depends on the caller.
        """

        def decode(status: int, content: bytes) -> ApiResponse:
            is_error = status not in _OK
            return ApiResponse(
                status, decode_object(method, path, query or {}, accept, is_error=is_error, content=content)
            )

        try:
            headers, encoded = {"Content-Type": kind, "Accept": accept}, await self._encode(path, body, kind)
            # Not kept during the request: with the data of a Secret it may take more than a megabyte.
            del body
            call = _Call(method, path, query or {}, headers, encoded, should_retry=should_retry)
            return await self._send(call, decode)
        except UnreadableBodyError as error:
            raise UnavailableError("Unavailable", f"the response for {path}: {error}") from None

    async def list_page(
        self,
        path: str,
        query: Mapping[str, str],
        limit: int = MAX_BYTES,
        *,
        accept: str = LIST,
        until_handled: AsyncExitStack | None = None,
    ) -> Page | None:
        """Return a page of a list, by default of metadata only, or None if the page has expired.

        If the page is large, `until_handled` then holds one of the slots of `stream_limiter`.
        Raises UnreadableBodyError if it has more than `limit` bytes or is nested too deeply, and UnavailableError.
        """

        def decode(status: int, content: bytes) -> Page | None:
            if status in _OK:
                return decode_page(content, *list_kind(path, accept))
            body = decode_object("GET", path, query, accept, is_error=True, content=content)
            if status == HTTPStatus.GONE:
                return None
            error = ForbiddenError if status == HTTPStatus.FORBIDDEN else UnavailableError
            raise error("Unavailable", f"listing {path}: {ApiResponse(status, body).message}")

        call = _Call("GET", path, query, {"Accept": accept}, is_list=True, limit=limit, until_handled=until_handled)
        return await self._send(call, decode)

    async def _send(self, call: _Call, decode: Callable[[int, bytes], _Decoded]) -> _Decoded:
        # Not the longest time at first: the connection may be broken, and a new one may work.
        timeout_seconds: float = _TIMEOUT_SECONDS
        for pause in (*_PAUSES, None) if call.should_retry else (None,):
            if call.method != "GET" and not self.may_write(call.path):
                raise LeaseLostError("the Lease is lost: another operator may write now")
            try:
                decoded = await self._attempt(call, decode, timeout_seconds)
            except UnavailableError as error:
                if pause is None:
                    if error.service and call.should_retry:
                        self._service_health.failed(SYSTEM)
                    raise
                if isinstance(error, _NoResponseError):
                    timeout_seconds = call.longest_seconds
                await asyncio.sleep(pause)
            else:
                self._service_health.worked(SYSTEM, time.monotonic())
                return decoded
        raise AssertionError

    async def _attempt(self, call: _Call, decode: Callable[[int, bytes], _Decoded], timeout_seconds: float) -> _Decoded:
        namespace = namespace_in(call.path)
        limiter = self.stream_limiter if call.is_list else self._memory_limiter
        async with AsyncExitStack() as until_decoded:
            before_large = partial(until_decoded.enter_async_context, limiter.slot(namespace))
            status, content = await self._receive(call, timeout_seconds, before_large)
            # Behind the computations of many tenants, a list of large Leases could take longer than the scope is valid.
            if call.is_list or len(content) <= LARGE_BYTES:
                decoded = decode(status, content)
            else:
                decoded = await self._cpu_limiter.run(namespace, partial(decode, status, content))
            if call.until_handled:
                await call.until_handled.enter_async_context(until_decoded.pop_all())
            return decoded

    async def _receive(
        self, call: _Call, timeout_seconds: float, before_large: Callable[[], Awaitable[None]]
    ) -> tuple[int, bytes]:
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=10)
        try:
            headers = await self._headers(call.headers)
            async with self._open(call.method, call.path, call.query, headers, call.body, timeout=timeout) as response:
                status = response.status
                is_temporary = status in _TEMPORARY or status >= HTTPStatus.INTERNAL_SERVER_ERROR
                content = b"" if is_temporary else await read_body(response.content, call.limit, before_large)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, aiohttp.ClientConnectorCertificateError):
                trust_new_ca(self._client.rest_client.ssl_context, self._client.configuration.ssl_ca_cert)
            raise _unreachable(error, service=SYSTEM) from None
        if is_temporary:
            raise UnavailableError("Unavailable", f"the API server returned HTTP {status}", service=SYSTEM)
        return status, content

    async def _encode(self, path: str, body: object, kind: str) -> bytes | None:
        if _characters(body) <= LARGE_BYTES:
            return _encoded(body, kind)
        return await self._cpu_limiter.run(namespace_in(path), partial(_encoded, body, kind))

    async def save(self, method: str, path: str, body: object, *, query: Mapping[str, str]) -> ApiResponse:
        """POST or merge-PATCH, even if the Lease is lost: what just happened to a token is known nowhere else."""
        without_lease = ApiClient(
            self._client, self._service_health, cpu_limiter=self._cpu_limiter, memory_limiter=self._memory_limiter
        )
        return await without_lease.request(method, path, body, kind=MERGE if method == "PATCH" else JSON, query=query)

    async def user_of(self, token: str) -> str:
        """Return the user name that the API server derives from a token, or "" if it does not accept the token."""
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        headers = {"Content-Type": JSON, "Accept": JSON, "User-Agent": "keyturn", "Authorization": f"Bearer {token}"}
        data = msgspec.json.encode({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        try:
            async with self._open("POST", path, {}, headers, data, timeout=timeout) as response:
                status, content = response.status, await read_body(response.content)
        except (aiohttp.ClientError, TimeoutError, OSError, UnreadableBodyError) as error:
            raise _unreachable(error) from None
        if status == HTTPStatus.UNAUTHORIZED:
            return ""
        if status not in _OK:
            raise UnavailableError("Unavailable", f"the API server did not review the token: HTTP {status}")
        review = decode_object("POST", path, {}, JSON, is_error=False, content=content)
        return str(review["status"]["userInfo"].get("username", ""))

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Stream the lines of a watch until the server ends it.

        Raises aiohttp's errors if the connection breaks, and UnreadableBodyError if an event is too large.
        """
        headers = await self._headers({"Accept": ONE})
        async with self._open("GET", path, query, headers, timeout=_WATCH_TIMEOUT) as response:
            if response.status not in _OK:
                raise aiohttp.ClientResponseError(response.request_info, (), status=response.status)
            slot = partial(self.stream_limiter.slot, namespace_in(path))
            async for line in read_lines(response.content, slot=slot):
                yield line
                del line  # may be large, and the next one may arrive much later

    async def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        # A compressed body of a hundred megabytes would arrive in a chunk of a few kilobytes.
        sent = {**headers, "Accept-Encoding": "identity", "User-Agent": "keyturn"}
        # This also re-reads the token of the service account, which the kubelet replaces each hour.
        try:
            await self._client.update_params_for_auth(sent, [], ["BearerToken"], "", "", None)
        except ConfigException:
            raise UnavailableError("Unavailable", "the token of the service account could not be read") from None
        return sent

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        data: bytes | None = None,
        *,
        timeout: aiohttp.ClientTimeout,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        rest = self._client.rest_client
        if rest.pool_manager is None:
            rest.pool_manager = rest._create_pool_manager()  # noqa: SLF001 - the client creates it in its first call
        session: aiohttp.ClientSession = rest.pool_manager
        return session.request(
            method,
            f"{self._client.configuration.host}{path}" + (f"?{urlencode(query)}" if query else ""),
            data=data,
            headers=headers,
            timeout=timeout,
            # A PATCH could become a GET, whose response looks like a success, or be sent to another host.
            allow_redirects=False,
            proxy=rest.proxy,
            proxy_headers=rest.proxy_headers,
        )


def _characters(body: object) -> int:
    """Return how many characters the data and annotations of a manifest have."""
    if not isinstance(body, Mapping):
        return 0
    texts = {**body.get("data", {}), **(body.get("metadata", {}).get("annotations") or {})}
    return sum(len(text) for text in texts.values() if text)


def _encoded(body: object, kind: str) -> bytes | None:
    if body is None:
        return None
    content = msgspec.json.encode(body)
    if kind != APPLY:
        return content
    return _NOT_IN_YAML.sub(lambda match: b"\\u%04x" % ord(match[0].decode()), content)


def is_terminating(response: ApiResponse) -> bool:
    """Whether the API server refused to create an object because the namespace is being deleted."""
    causes = (response.body.get("details") or {}).get("causes") or []
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


def refusal(response: ApiResponse, what: str, secrets: Mapping[str, str]) -> RefusedError | NamespaceTerminatingError:
    """Return the error for a write that was refused.

    It contains the API server's message, because a quota or policy explains itself there, but none of `secrets`.
    """
    if is_terminating(response):
        return NamespaceTerminatingError()
    # A Secret has up to 100,000 pieces, so only the start of the message is searched. It ends with a whole piece.
    start = _START.match(response.message)
    message = start[0] if start else ""
    # For the same reason, most pieces are looked up among the parts of the message that have the same length.
    parts = {size: {message[at : at + size] for at in range(len(message))} for size in _SHORT}
    for value in secrets.values():
        # A policy may repeat the value in plain text, in base64 as it was sent, or as a file with escaped line ends.
        # Therefore each piece is replaced.
        for piece in (*_PIECE.findall(value), base64.b64encode(value.encode()).decode()):
            if piece and piece in parts.get(len(piece), message):
                message = message.replace(piece, "...")
    return RefusedError("WriteDenied", f"the API server refused to write {what}: {message[:500]}")


def _unreachable(error: Exception, *, service: str = "") -> UnavailableError:
    drop_frames(error)
    why = type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = f"its certificate: {getattr(error.certificate_error, 'verify_message', why)}"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        why = f"the proxy returned HTTP {error.status}"
    kind = _NoResponseError if isinstance(error, TimeoutError) else UnavailableError
    return kind("Unreachable", f"the API server did not respond ({why})", service=service)
