"""An HTTP proxy for CONNECT requests."""

import asyncio
import ssl
import threading
from base64 import b64encode
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy, and the hosts that it was asked to connect to."""

    url: str
    hosts: list[str] = field(default_factory=list)


@asynccontextmanager
async def running_proxy(
    status: int = 200, upstream: str = "", tls: ssl.SSLContext | None = None, credentials: str = "",
    upstreams: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Proxy]:  # fmt: skip
    """Run a proxy that responds to CONNECT with `status`; with 0, it closes the connection.

    With `upstream`, the URL of a server, it forwards everything there; `upstreams` are those of single hosts. With
    `tls` it terminates TLS. With `credentials`, user:password, it responds with 407 to others, and its URL contains
    them percent-encoded.
    """
    expected = f"Basic {b64encode(credentials.encode()).decode()}"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, host, _, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().split(maxsplit=3)
        proxy.hosts.append(host)
        writers.append(writer)
        response = 407 if credentials and expected not in headers[0] else status
        if response:
            writer.write(f"HTTP/1.1 {response} X\r\n\r\n".encode())
        with suppress(OSError):
            if response == 200:
                server = upstreams.get(host.rpartition(":")[0], upstream) or f"//{host}"
                await _forward(reader, writer, urlsplit(server).netloc, tls, writers)
        writer.close()

    writers: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        user = ":".join(quote(part, safe="") for part in credentials.split(":", 1)) + "@" if credentials else ""
        proxy = Proxy(f"http://{user}127.0.0.1:{server.sockets[0].getsockname()[1]}")
        yield proxy
        # Clients of AWS keep their connections open. The loop needs two turns to close aborted ones.
        for each in writers:
            each.transport.abort()
        await asyncio.sleep(0.05)


@contextmanager
def proxy_in_thread(upstreams: Mapping[str, str]) -> Iterator[str]:
    """Run a proxy that forwards these hosts to servers (URLs), outside of an event loop; yields its URL."""
    loop = asyncio.new_event_loop()
    stack = AsyncExitStack()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    try:
        yield run(stack.enter_async_context(running_proxy(upstreams=upstreams))).url
    finally:
        run(stack.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _forward(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    address: str,
    tls: ssl.SSLContext | None,
    writers: list[asyncio.StreamWriter],
) -> None:
    if tls:
        await writer.start_tls(tls)
    host, _, port = address.partition(":")
    upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))
    writers.append(upstream_writer)
    await asyncio.gather(_copy(reader, upstream_writer), _copy(upstream_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()
