"""HTTP/1.1 to one client: each request gets its answer at once, and no client can hold what others need."""

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol, cast

import h11

# What SDKs send has less than one KiB.
_HEADER_BYTES = 8192
_CONNECTIONS = 512
# A connection is closed when it has brought no whole request for so long, however slowly it goes on sending.
_REQUEST_SECONDS = 30.0
_LINGER_SECONDS = 2.0
_DRAIN_SECONDS = 2.0
_TICK_SECONDS = 0.05
_SWEEP_SECONDS = 1.0
# So many requests of one connection are answered before others have their turn.
_IN_A_ROW = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets."""

    status: int
    body: bytes = field(repr=False)
    content_type: bytes = b"text/plain; charset=utf-8"


class NotListeningError(Exception):
    """A port cannot be listened on; the message says which and why in one line."""


class Answers(Protocol):
    """What a port has to say."""

    def answer(self, request: h11.Request) -> Answer:
        """Answer a request, at once."""

    def wrong(self, status: int, message: str) -> Answer:
        """Make the answer to what is no request."""


class Listener:
    """A port, and the connections that came by it."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.open: set[Connection] = set()
        self.draining = False
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def listen(self, host: str, port: int) -> str:
        """Accept connections from now on, until `close`; returns HOST:PORT. Raises NotListeningError."""
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(lambda: Connection(self), host, port, backlog=_CONNECTIONS)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise NotListeningError(f"cannot listen on {host}:{port}: {why}") from None
        self._server = server
        self._sweep()
        bound, bound_port, *_ = server.sockets[0].getsockname()
        return f"[{bound}]:{bound_port}" if ":" in bound else f"{bound}:{bound_port}"

    def welcome(self, connection: "Connection") -> None:
        """Take a connection in; where there are too many, the one goes that has been silent longest."""
        if len(self.open) >= _CONNECTIONS:
            min(self.open, key=lambda one: one.ends_at).abort()
        self.open.add(connection)

    async def close(self) -> None:
        """Accept nothing more, answer what has been sent by now, and close; takes two seconds at most."""
        if self._server is None:
            return
        self.draining = True
        self._server.close()
        for _ in range(round(_DRAIN_SECONDS / _TICK_SECONDS)):
            # What the kernel holds at the first moment has not been seen yet.
            await asyncio.sleep(_TICK_SECONDS)
            for connection in list(self.open):
                connection.close_if_idle()
            if not self.open:
                break
        self._end(self.open)
        if self._timer:
            self._timer.cancel()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._end(one for one in self.open if one.ends_at <= now)
        self._timer = loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _end(self, connections: Iterable["Connection"]) -> None:
        for connection in list(connections):
            connection.abort()


class Connection(asyncio.Protocol):
    """One client. Its requests are answered in their order, also where it sends them without waiting."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER, _HEADER_BYTES)
        self._transport: asyncio.Transport
        self._full = self._ended = False
        self.ends_at = self._loop.time() + _REQUEST_SECONDS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: it is open."""
        self._transport = cast("asyncio.Transport", transport)
        self._listener.welcome(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's word
        """asyncio: it is closed."""
        self._ended = True
        self._listener.open.discard(self)

    def data_received(self, data: bytes) -> None:
        """asyncio: these bytes came."""
        if not self._ended:
            self._http.receive_data(data)
            self._answer_all()

    def eof_received(self) -> bool:
        """asyncio: nothing more will come; whether it stays open for our answers."""
        if not self._ended:
            self._http.receive_data(b"")
            self._answer_all()
        return not self._ended

    def pause_writing(self) -> None:
        """asyncio: the client does not read what it gets."""
        self._full = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """asyncio: it reads again."""
        self._full = False
        self._transport.resume_reading()
        self._answer_all()

    def close_if_idle(self) -> None:
        """Close it unless a part of a request or of an answer is on its way."""
        waiting = self._http.trailing_data[0] or self._transport.get_write_buffer_size()
        if self._ended or not waiting:
            self._transport.close()

    def abort(self) -> None:
        """Close it at once."""
        self._transport.abort()

    def _answer_all(self) -> None:
        for _ in range(_IN_A_ROW):
            if self._full or self._ended:
                return
            if not self._take():
                self._transport.resume_reading()
                return
        self._transport.pause_reading()
        self._loop.call_soon(self._answer_all)

    def _take(self) -> bool:
        """Take what came next; False where it is not whole yet."""
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            # Its own text has what the client sent.
            wrong = self._listener.answers.wrong(error.error_status_hint, "this is not HTTP/1.1, or too long")
            self._send(wrong, b"", closing=True)
            return True
        if isinstance(event, h11.Request):
            closing = self._listener.draining or _has_body(event)
            self._send(self._listener.answers.answer(event), event.method, closing=closing)
        elif isinstance(event, h11.EndOfMessage):
            self._http.start_next_cycle()
        elif isinstance(event, h11.ConnectionClosed):
            self._ended = True
            self._transport.close()
        return event is not h11.NEED_DATA

    def _send(self, answer: Answer, method: bytes, *, closing: bool) -> None:
        http = self._http
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", b"%d" % len(answer.body)),
            (b"cache-control", b"no-store"),
        ]
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append((b"allow", b"GET, HEAD"))
        if closing:
            headers.append((b"connection", b"close"))
        parts = [http.send(h11.Response(status_code=answer.status, headers=headers))]
        if method != b"HEAD":
            parts.append(http.send(h11.Data(data=answer.body)))
        parts.append(http.send(h11.EndOfMessage()))
        self._transport.write(b"".join(part for part in parts if part))
        self.ends_at = self._loop.time() + _REQUEST_SECONDS
        if http.our_state is not h11.DONE:
            self._linger()

    def _linger(self) -> None:
        """Say that this was the last answer. To close now would take it from a client that is still sending."""
        self._ended = True
        self.ends_at = self._loop.time() + _LINGER_SECONDS
        self._transport.write_eof()


def _has_body(request: h11.Request) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
        for name, value in request.headers
    )
