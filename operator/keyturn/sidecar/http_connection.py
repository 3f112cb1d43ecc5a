"""HTTP/1.1 with one client: each request gets its response at once, and no client can starve the others."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol, cast

import h11

# How much is read from one connection, and responded to, before the others get a turn.
_READ_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, or all together, may use. An SDK sends less than one KiB, a few times an hour.

    `request_seconds`: a connection that completes no request within this time is closed, even if it keeps sending.
    `linger_seconds`: how long a client may keep sending after the last response. `drain_seconds`: how long `close`
    takes at most.
    """

    header_bytes: int = 8192
    connections: int = 256
    request_seconds: float = 30
    linger_seconds: float = 2
    drain_seconds: float = 2
    sweep_seconds: float = 1


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request without its body. The names of headers are in lower case."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a header, in the order in which they were sent."""
        return [value for header, value in self.headers if header == name]


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response. Responses are never cached by clients."""

    status: int
    body: bytes = field(repr=False)
    content_type: bytes = b"text/plain; charset=utf-8"


class Handler(Protocol):
    """Makes the responses of a server."""

    def respond(self, http_request: HttpRequest) -> HttpResponse:
        """Return the response to a request; must not block."""

    def error(self, status: int, message: str) -> HttpResponse:
        """Return the response to bytes that are not a request."""


@dataclass(slots=True)
class ServerState:
    """What the connections of a server share."""

    handler: Handler
    limits: Limits = field(default_factory=Limits)
    open: "set[Connection]" = field(default_factory=set)
    draining: bool = False
    # One buffer for all connections, because the bytes are taken out of it at once.
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(_READ_BYTES)), repr=False)

    def add(self, connection: "Connection") -> None:
        """Add a connection; if there are too many, the one that has been idle longest is closed."""
        if len(self.open) >= self.limits.connections:
            min(self.open, key=lambda it: it.deadline).abort()
        self.open.add(connection)


class Connection(asyncio.BufferedProtocol):
    """The connection of one client. Pipelined requests get their responses in order."""

    def __init__(self, server: ServerState) -> None:
        self._server = server
        self._limits = server.limits
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER, server.limits.header_bytes)
        self._transport: asyncio.Transport
        self._ended = False
        self.deadline = self._loop.time() + self._limits.request_seconds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection is open."""
        self._transport = cast("asyncio.Transport", transport)
        self._server.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio passes it by name
        """asyncio: the connection is closed."""
        self._ended = True
        self._server.open.discard(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio passes it by name
        """asyncio: where to store received bytes."""
        return self._server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio: this number of bytes was received."""
        if not self._ended:
            self._http.receive_data(bytes(self._server.buffer[:nbytes]))
            self._respond_all()

    def eof_received(self) -> bool:
        """asyncio: the client sends no more; returns whether the connection stays open for our responses."""
        if not self._ended:
            self._http.receive_data(b"")
            self._respond_all()
        return not self._ended

    def pause_writing(self) -> None:
        """asyncio: the client does not read its responses."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """asyncio: the client reads again."""
        self._transport.resume_reading()

    def close_if_idle(self) -> None:
        """Close the connection unless a part of a request or of a response is under way."""
        pending = self._http.trailing_data[0] or self._transport.get_write_buffer_size()
        if self._ended or not pending:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._server.open.discard(self)
        self._transport.abort()

    def _respond_all(self) -> None:
        while not (self._ended or self._transport.is_closing()):
            if not self._handle_event():
                return

    def _handle_event(self) -> bool:
        """Handle the next event of the client; returns False if it is incomplete."""
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            # The error's own text contains what the client sent.
            message = "malformed or oversized HTTP/1.1 request"
            self._send(self._server.handler.error(error.error_status_hint, message), b"", closing=True)
            return True
        if isinstance(event, h11.Request):
            http_request = HttpRequest(event.method, event.target, tuple(event.headers))
            closing = self._server.draining or _has_body(http_request)
            self._send(self._server.handler.respond(http_request), http_request.method, closing=closing)
        elif isinstance(event, h11.EndOfMessage):
            self._http.start_next_cycle()
        elif isinstance(event, h11.ConnectionClosed):
            self._ended = True
            self._transport.close()
        return event not in (h11.NEED_DATA, h11.PAUSED)

    def _send(self, response: HttpResponse, method: bytes, *, closing: bool) -> None:
        http = self._http
        parts = [http.send(_head(response.status, response.content_type, len(response.body), closing=closing))]
        if method != b"HEAD":
            parts.append(http.send(h11.Data(data=response.body)))
        parts.append(http.send(h11.EndOfMessage()))
        self._transport.write(b"".join(part for part in parts if part))
        self.deadline = self._loop.time() + self._limits.request_seconds
        if http.our_state is not h11.DONE:
            self._linger()

    def _linger(self) -> None:
        """Announce the end. Closing now would discard the last response if the client is still sending."""
        self._ended = True
        self.deadline = self._loop.time() + self._limits.linger_seconds
        # The client may have closed the connection.
        with suppress(OSError):
            self._transport.write_eof()


@lru_cache(maxsize=64)
def _head(status: int, content_type: bytes, length: int, *, closing: bool) -> h11.Response:
    headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % length),
        (b"cache-control", b"no-store"),
    ]
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append((b"allow", b"GET, HEAD"))
    if closing:
        headers.append((b"connection", b"close"))
    return h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode())


def _has_body(http_request: HttpRequest) -> bool:
    length = b"".join(http_request.values(b"content-length"))
    return bool(http_request.values(b"transfer-encoding") or length.strip(b"0"))
