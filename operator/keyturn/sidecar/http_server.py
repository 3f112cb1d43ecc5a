"""An HTTP/1.1 server in which no client can starve the others, based on h11 and asyncio streams.

docs/design/decisions/0007-sidecar-http-server.md explains why no library is used.
"""

import asyncio
import os
import resource
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol

import h11

METHODS = (b"GET", b"HEAD")
_READ_BYTES = 2048
# How many requests are read, and parts of large bodies sent, in an iteration of the event loop. 256 clients that send
# many requests at once, or 8 KiB of headers, would otherwise occupy it for a second, again and again.
_STEPS = 8
# asyncio reads as much as the kernel has received, up to 256 KiB. For all connections together that would be the
# whole memory limit of an injected sidecar, 64 MiB.
_RECEIVE_BUFFER_BYTES = 8192
# Also the number of connections that asyncio accepts in one step. With more, a flood of idle connections would displace
# a new client before its request is read.
_BACKLOG = 64
_MAX_CONNECTIONS = 256
_DRAIN_POLL_SECONDS = 0.05


class BindError(Exception):
    """A port cannot be opened. The message is one line with the address and the reason."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request without its body. The names of headers are in lower case."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a header, in the order in which they were sent."""
        return [value for header, value in self.headers if header == name]

    @property
    def has_body(self) -> bool:
        """Whether a body follows. No handler reads it."""
        length = b"".join(self.values(b"content-length"))
        return bool(self.values(b"transfer-encoding") or length.strip(b"0"))


class LargeBody(Protocol):
    """A body that is produced while it is sent, so that it does not occupy memory as a whole."""

    @property
    def size(self) -> int:
        """The number of bytes of all parts."""

    def parts(self) -> Iterator[bytes]:
        """Return the body in parts; called once for each response. A part must take at most about a millisecond.

        If the parts end before `size`, the connection is closed.
        """


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response that is never cached."""

    status: int
    body: bytes | LargeBody = field(repr=False)
    content_type: bytes = b"text/plain; charset=utf-8"


def _max_connections() -> int:
    # Two servers may have half of the files that the process may open. Renewals need the others.
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_CONNECTIONS if limit == resource.RLIM_INFINITY else min(_MAX_CONNECTIONS, limit // 4)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for each client and for all clients. An SDK sends less than one KiB, a few times an hour.

    `request_seconds`: a connection that completes no request within this time is closed, even if it keeps sending.
    `linger_seconds`: how long a client may keep sending after the last response. `drain_seconds`: how long `close`
    waits for unfinished requests. `unsent_bytes`: how many bytes of responses may be buffered for clients that do not
    read them, besides one response, before the connection that has not read for longest is closed.
    """

    header_bytes: int = 8192
    connections: int = field(default_factory=_max_connections)
    unsent_bytes: int = 8 * 2**20
    request_seconds: float = 30
    linger_seconds: float = 2
    drain_seconds: float = 2


def split_address(address: str) -> tuple[str, int]:
    """Split HOST:PORT; raises BindError."""
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal() and int(port) <= 0xFFFF):  # noqa: PLR2004 - the highest port
        raise BindError(f"cannot listen on {address}: it is not HOST:PORT")
    return host.strip("[]"), int(port)


class Handler(Protocol):
    """Produces the responses of a server."""

    async def respond(self, http_request: HttpRequest) -> HttpResponse:
        """Return the response to a request; must not block."""

    def error(self, status: int, message: str) -> HttpResponse:
        """Return the response to bytes that are not a request."""


@dataclass(frozen=True, slots=True, eq=False)
class _Connection:
    """An open connection, which is closed when `timeout` expires. Each response postpones the timeout.

    `client` is the address of the client without its port.
    """

    client: str
    task: asyncio.Task[None] | None
    http: h11.Connection
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    timeout: asyncio.Timeout

    def is_idle(self) -> bool:
        """Whether no partial request has arrived, and no response is partly unsent."""
        is_partial = self.http.trailing_data[0] or self.unsent_bytes()
        return self.http.our_state is h11.MUST_CLOSE or not is_partial

    def unsent_bytes(self) -> int:
        """Return how much of a response has not been sent yet."""
        return self.writer.transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close the connection immediately, and cancel its task.

        Otherwise, the task would wait for its next step. A client that opens connections faster than their tasks take
        steps would fill the memory with tasks.
        """
        self.writer.transport.abort()
        if self.task:
            self.task.cancel()


class HttpServer:
    """Listens on a port and serves its connections."""

    def __init__(self, handler: Handler, limits: Limits | None = None) -> None:
        self._handler = handler
        self._limits = limits or Limits()
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        # In the order of their last writes.
        self._written: dict[_Connection, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._steps = asyncio.Semaphore(_STEPS)
        self._is_closing = False

    @property
    def open_connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    async def listen(self, host: str, port: int) -> str:
        """Accept connections until `close` and return the address as HOST:PORT; raises BindError.

        An empty host means all addresses, IPv4 and IPv6. Port 0 means a free one.
        """
        backlog = min(_BACKLOG, self._limits.connections)
        try:
            self._server = await asyncio.start_server(
                self._accept, host, port, limit=_READ_BYTES, backlog=backlog, start_serving=False
            )
            for listening_socket in self._server.sockets:
                # Accepted sockets inherit it.
                listening_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            await self._server.start_serving()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise BindError(f"cannot listen on {host}:{port}: {reason}") from None
        bound_host, bound_port, *_ = self._server.sockets[0].getsockname()
        return f"[{bound_host}]:{bound_port}" if ":" in bound_host else f"{bound_host}:{bound_port}"

    async def close(self) -> None:
        """Stop accepting connections, respond to open requests, and close all connections."""
        if self._server is None:
            return
        loop = asyncio.get_running_loop()
        end = loop.time() + self._limits.drain_seconds
        self._is_closing = True
        self._server.close()
        while self._tasks:
            # At least one wait is needed: the kernel may have buffered requests that have not been read yet.
            await asyncio.wait(self._tasks, timeout=_DRAIN_POLL_SECONDS)
            for connection in self._connections:
                if connection.is_idle() or loop.time() >= end:
                    connection.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # asyncio can start the task by itself, but logs a traceback if that task is cancelled.
        task = asyncio.create_task(self.serve_connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until it closes the connection, exceeds a limit, or has received the last response."""
        # drain() then waits until the whole response is sent: a client that does not read it gets no second one.
        writer.transport.set_write_buffer_limits(high=0)
        http, loop = h11.Connection(h11.SERVER, self._limits.header_bytes), asyncio.get_running_loop()
        timeout = asyncio.timeout(self._limits.request_seconds)
        # Without an address if the client has already closed the connection.
        client = (writer.get_extra_info("peername") or ("",))[0]
        connection = _Connection(client, asyncio.current_task(), http, reader, writer, timeout)
        self._add(connection)
        try:
            async with timeout:
                while parts := await self._next_response(connection):
                    timeout.reschedule(loop.time() + self._limits.request_seconds)
                    for number, data in enumerate(parts):
                        if number:
                            # drain() returns at once as long as the kernel accepts data.
                            async with self._steps:
                                await asyncio.sleep(0)
                        self._make_room(connection, len(data))
                        writer.write(data)
                        await writer.drain()
                    # May be large, and the next request may arrive much later.
                    del parts, data
                # Closing the connection now would discard the last response if the client is still sending.
                timeout.reschedule(loop.time() + self._limits.linger_seconds)
                writer.write_eof()
                while await reader.read(_READ_BYTES):
                    pass
        # A closed connection, TimeoutError, a body that ended early, or `abort`. A task that ends with CancelledError
        # keeps it, and with it the connection, in a reference cycle that only the garbage collector finds.
        except (OSError, h11.LocalProtocolError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(connection)
            self._written.pop(connection, None)
            connection.abort()

    def _add(self, connection: _Connection) -> None:
        """Add a connection; if there are too many, close one of a client with the most: the one that is idle longest.

        A client that floods the server displaces only itself. Otherwise, it could displace each probe of the kubelet
        before it is served, and the kubelet would restart the process. This is a separate method so that
        `serve_connection`, which runs for long, keeps no reference to the closed one.
        """
        if len(self._connections) >= self._limits.connections:
            counts = Counter(it.client for it in self._connections)
            most = max(counts.values())
            candidates = (it for it in self._connections if counts[it.client] == most)
            longest_idle = min(candidates, key=lambda it: it.timeout.when() or 0)
            self._connections.discard(longest_idle)
            longest_idle.abort()
        self._connections.add(connection)

    def _make_room(self, writing: _Connection, size: int) -> None:
        """Make room for a response: close the connections whose clients have not read their responses for longest."""
        unread = {it: it.unsent_bytes() for it in self._written if it.unsent_bytes()}
        for connection in list(unread):
            if sum(unread.values()) + size <= self._limits.unsent_bytes:
                break
            del unread[connection]
            connection.abort()
        # Last from now on. A client that is still receiving a large body is not one that has stopped.
        self._written.pop(writing, None)
        self._written[writing] = None

    async def _next_response(self, connection: _Connection) -> Iterable[bytes]:
        """Wait for a request and return the bytes of its response, or nothing after the last one."""
        http = connection.http
        try:
            http_request = await self._receive(http, connection.reader)
        except h11.RemoteProtocolError as error:
            # A frame of h11 refers to the error: its traceback would be another cycle with the connection.
            error.__traceback__ = None
            # Not the error's own text, which repeats what the client sent.
            response = self._handler.error(error.error_status_hint, "malformed or oversized HTTP/1.1 request")
            return _encode(http, response, is_last=True)
        if http_request is None:
            return ()
        response = await self._handler.respond(http_request)
        is_last = self._is_closing or http_request.has_body
        return _encode(http, response, is_last=is_last, without_body=http_request.method == b"HEAD")

    async def _receive(self, http: h11.Connection, reader: asyncio.StreamReader) -> HttpRequest | None:
        """Return the next request, or None if there are no more; raises h11.RemoteProtocolError."""
        while http.our_state is not h11.MUST_CLOSE:
            async with self._steps:
                event = http.next_event()
                await asyncio.sleep(0)
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(_READ_BYTES))
            elif isinstance(event, h11.Request):
                return HttpRequest(event.method, event.target, tuple(event.headers))
            elif isinstance(event, h11.EndOfMessage):
                http.start_next_cycle()
            else:
                break
        return None


def _encode(
    http: h11.Connection, response: HttpResponse, *, is_last: bool, without_body: bool = False
) -> Iterable[bytes]:
    """Return the bytes of a response, in one part unless it is large. `is_last`: the connection will be closed."""
    body = response.body
    size = len(body) if isinstance(body, bytes) else body.size
    head = _head(response.status, response.content_type, size, is_last=is_last)
    if without_body:
        body = b""
    if not isinstance(body, bytes):
        return _parts(http, head, body)
    return (b"".join(http.send(event) or b"" for event in (head, h11.Data(data=body), h11.EndOfMessage())),)


def _parts(http: h11.Connection, head: h11.Response, body: LargeBody) -> Iterator[bytes]:
    yield http.send(head) or b""
    for part in body.parts():
        yield http.send(h11.Data(data=part)) or b""
    yield http.send(h11.EndOfMessage()) or b""


# Cached, because only a few different heads are sent, and h11 validates every header of a new one.
@lru_cache(maxsize=64)
def _head(status: int, content_type: bytes, length: int, *, is_last: bool) -> h11.Response:
    headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % length),
        (b"cache-control", b"no-store"),
    ]
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append((b"allow", b"GET, HEAD"))
    if is_last:
        headers.append((b"connection", b"close"))
    return h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode())
