"""An HTTP proxy for CONNECT requests."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy, and the hosts that it was asked to connect to."""

    url: str
    hosts: list[str] = field(default_factory=list)


@asynccontextmanager
async def running_proxy(
    status: int = 200, upstream: str = "", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Proxy]:
    """Run a proxy that responds to CONNECT with `status`; with 0, it closes the connection.

    With `upstream`, the URL of a server, it forwards everything there. With `tls` it terminates TLS.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        proxy.hosts.append(host)
        writers.append(writer)
        if status:
            writer.write(f"HTTP/1.1 {status} X\r\n\r\n".encode())
        with suppress(OSError):
            if status == 200:
                await _forward(reader, writer, urlsplit(upstream or f"//{host}").netloc, tls, writers)
        writer.close()

    writers: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        proxy = Proxy(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        yield proxy
        # Clients of AWS keep their connections open. The loop needs two turns to close aborted ones.
        for each in writers:
            each.transport.abort()
        await asyncio.sleep(0.05)


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
