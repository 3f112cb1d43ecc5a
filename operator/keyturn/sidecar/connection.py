"""HTTP/1.1 to one client: each request gets its answer at once, and no client can hold what others need."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol, cast

import h11

# What is read of one connection, and answered, before others have their turn.
_READ_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, or all together, may take. SDKs send less than one KiB, a few times in an hour.

    `request_seconds`: a connection that brings no whole request for so long is closed, even if it sends on.
    `linger_seconds`: how long the client may go on sending after the last answer. `drain_seconds`: how long a
    listener takes to close at most.
    """

    header_bytes: int = 8192
    connections: int = 256
    request_seconds: float = 30
    linger_seconds: float = 2
    drain_seconds: float = 2
    sweep_seconds: float = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. The names of headers are in lower case."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)

    def values(self, name: bytes) -> list[bytes]:
        """The values of a header, in their order."""
        return [value for found, value in self.headers if found == name]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets."""

    status: int
    body: bytes = field(repr=False)
    content_type: bytes = b"text/plain; charset=utf-8"


class Answers(Protocol):
    """What a port has to say."""

    def answer(self, asked: Asked) -> Answer:
        """Answer a request, at once."""

    def wrong(self, status: int, message: str) -> Answer:
        """Make the answer to what is no request."""


@dataclass(slots=True)
class Port:
    """What the connections of a port share."""

    answers: Answers
    limits: Limits = field(default_factory=Limits)
    open: "set[Connection]" = field(default_factory=set)
    draining: bool = False
    # One for all, since what comes is taken out of it at once.
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(_READ_BYTES)), repr=False)

    def welcome(self, connection: "Connection") -> None:
        """Take a connection in; where there are too many, the one goes that has been silent longest."""
        if len(self.open) >= self.limits.connections:
            min(self.open, key=lambda one: one.ends_at).abort()
        self.open.add(connection)


class Connection(asyncio.BufferedProtocol):
    """One client. Its requests are answered in their order, also where it sends them without waiting."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._limits = port.limits
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER, port.limits.header_bytes)
        self._transport: asyncio.Transport
        self._ended = False
        self.ends_at = self._loop.time() + self._limits.request_seconds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: it is open."""
        self._transport = cast("asyncio.Transport", transport)
        self._port.welcome(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's word
        """asyncio: it is closed."""
        self._ended = True
        self._port.open.discard(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's word
        """asyncio: where to put what comes."""
        return self._port.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio: so many bytes came."""
        if not self._ended:
            self._http.receive_data(bytes(self._port.buffer[:nbytes]))
            self._answer_all()

    def eof_received(self) -> bool:
        """asyncio: nothing more will come; whether it stays open for our answers."""
        if not self._ended:
            self._http.receive_data(b"")
            self._answer_all()
        return not self._ended

    def pause_writing(self) -> None:
        """asyncio: the client does not read what it gets."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """asyncio: it reads again."""
        self._transport.resume_reading()

    def close_if_idle(self) -> None:
        """Close it unless a part of a request or of an answer is on its way."""
        waiting = self._http.trailing_data[0] or self._transport.get_write_buffer_size()
        if self._ended or not waiting:
            self._transport.close()

    def abort(self) -> None:
        """Close it at once."""
        self._port.open.discard(self)
        self._transport.abort()

    def _answer_all(self) -> None:
        while not (self._ended or self._transport.is_closing()):
            if not self._take():
                return

    def _take(self) -> bool:
        """Take what came next; False where it is not whole yet."""
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            # Its own text has what the client sent.
            wrong = self._port.answers.wrong(error.error_status_hint, "this is not HTTP/1.1, or too long")
            self._send(wrong, b"", closing=True)
            return True
        if isinstance(event, h11.Request):
            asked = Asked(event.method, event.target, tuple(event.headers))
            closing = self._port.draining or _has_body(asked)
            self._send(self._port.answers.answer(asked), asked.method, closing=closing)
        elif isinstance(event, h11.EndOfMessage):
            self._http.start_next_cycle()
        elif isinstance(event, h11.ConnectionClosed):
            self._ended = True
            self._transport.close()
        return event not in (h11.NEED_DATA, h11.PAUSED)

    def _send(self, answer: Answer, method: bytes, *, closing: bool) -> None:
        http = self._http
        parts = [http.send(_head(answer.status, answer.content_type, len(answer.body), closing=closing))]
        if method != b"HEAD":
            parts.append(http.send(h11.Data(data=answer.body)))
        parts.append(http.send(h11.EndOfMessage()))
        self._transport.write(b"".join(part for part in parts if part))
        self.ends_at = self._loop.time() + self._limits.request_seconds
        if http.our_state is not h11.DONE:
            self._linger()

    def _linger(self) -> None:
        """Say that this was the last answer. To close now would take it from a client that is still sending."""
        self._ended = True
        self.ends_at = self._loop.time() + self._limits.linger_seconds
        # The client may be gone.
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


def _has_body(asked: Asked) -> bool:
    return bool(asked.values(b"transfer-encoding") or b"".join(asked.values(b"content-length")).strip(b"0"))
