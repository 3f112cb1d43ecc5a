"""Asking a port by bytes, as no well-behaved client would."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from keyturn.sidecar.connection import Answer, Asked, Limits
from keyturn.sidecar.listener import Listener

REQUEST = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
QUICK = Limits(header_bytes=1000, connections=3, request_seconds=0.4, linger_seconds=0.2, sweep_seconds=0.05)


@asynccontextmanager
async def connected(to: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = to.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def tell(to: str, raw: str) -> tuple[int, dict[str, str], str]:
    """Send bytes (of Latin-1), say that no more come, and read one answer: status, headers, body."""
    async with connected(to) as (reader, writer), asyncio.timeout(5):
        writer.write(raw.encode("latin-1"))
        writer.write_eof()
        text = (await reader.read()).decode()
    head, _, body = text.partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ") for line in lines), body


class Echo:
    """Answers the path, or so many bytes as it says."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked.target)
        path = asked.target.removeprefix(b"/")
        return Answer(200, b"x" * int(path) if path.isdigit() else path)

    def wrong(self, status: int, message: str) -> Answer:
        return Answer(status, message.encode())


@asynccontextmanager
async def listening(limits: Limits | None = None) -> AsyncIterator[tuple[str, Echo, Listener]]:
    echo = Echo()
    listener = Listener(echo, limits)
    at = await listener.listen("127.0.0.1", 0)
    try:
        async with asyncio.timeout(20):
            yield at, echo, listener
    finally:
        await listener.close()


async def read_end(reader: asyncio.StreamReader) -> bytes:
    """Read until it is closed, in whichever way."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b"reset"
