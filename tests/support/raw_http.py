"""A client that sends arbitrary bytes, and a server with the sidecar's HTTP implementation."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from keyturn.sidecar.http_server import HttpRequest, HttpResponse, HttpServer, Limits

REQUEST = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
SHORT_LIMITS = Limits(header_bytes=1000, connections=3, request_seconds=0.4, linger_seconds=0.2)


@asynccontextmanager
async def connect(
    address: str, source: str | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to HOST:PORT, from the address `source` if it is given."""
    host, _, port = address.rpartition(":")
    local_address = (source, 0) if source else None
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), local_addr=local_address)
    try:
        yield reader, writer
    finally:
        writer.close()


async def send_raw(address: str, raw: str) -> tuple[int, dict[str, str], str]:
    """Send Latin-1 text and the end of the stream, and return the response: status, headers, body."""
    async with connect(address) as (reader, writer), asyncio.timeout(5):
        writer.write(raw.encode("latin-1"))
        writer.write_eof()
        response = (await reader.read()).decode()
    head, _, body = response.partition("\r\n\r\n")
    status_line, *lines = head.split("\r\n")
    return int(status_line.split()[1]), dict(line.lower().split(": ") for line in lines), body


class Parts:
    """A body of the parts "0" to "9", again and again, each digit `repeated`. `on_part` is called before each part."""

    def __init__(self, on_part: Callable[[], None], number: int = 1000, repeated: int = 1) -> None:
        self.size = number * repeated
        self._on_part = on_part
        self._number = number
        self._repeated = repeated

    def parts(self) -> Iterator[bytes]:
        for number in range(self._number):
            self._on_part()
            yield b"%d" % (number % 10) * self._repeated


class EchoHandler:
    """Responds with the path, with N bytes if the path is a number N, or with a body in parts for /parts and /large.

    It does not respond to /never.
    """

    def __init__(self) -> None:
        self.targets: list[bytes] = []
        self.errors: list[int] = []
        self.on_request: Callable[[], None] = lambda: None
        self.on_part: Callable[[], None] = lambda: None

    async def respond(self, http_request: HttpRequest) -> HttpResponse:
        self.on_request()
        self.targets.append(http_request.target)
        path = http_request.target.removeprefix(b"/")
        if path == b"never":
            await asyncio.Event().wait()
        if path == b"parts":
            return HttpResponse(200, Parts(self.on_part))
        if path == b"large":
            return HttpResponse(200, Parts(self.on_part, 20, 2**20))
        return HttpResponse(200, b"x" * int(path) if path.isdigit() else path)

    def error(self, status: int, message: str) -> HttpResponse:
        self.errors.append(status)
        return HttpResponse(status, message.encode())


@asynccontextmanager
async def running_server(limits: Limits | None = None) -> AsyncIterator[tuple[str, EchoHandler, HttpServer]]:
    echo = EchoHandler()
    server = HttpServer(echo, limits)
    address = await server.listen("127.0.0.1", 0)
    try:
        async with asyncio.timeout(20):
            yield address, echo, server
    finally:
        await server.close()


async def read_until_closed(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b"reset"
