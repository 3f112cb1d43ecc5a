import asyncio
import re
import socket
import struct

import pytest

from keyturn.sidecar.http_connection import Limits
from tests.support.raw_http import REQUEST, SHORT_LIMITS, connect, running_server

STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d+)")


async def test_connection_is_kept_for_further_requests() -> None:
    async with running_server() as (address, _, _), connect(address) as (reader, writer):
        for path in (b"first", b"second", b"third"):
            writer.write(b"GET /" + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")

            assert (await reader.readuntil(path)).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_request_may_arrive_byte_by_byte() -> None:
    async with running_server() as (address, echo, _), connect(address) as (reader, writer):
        for byte in REQUEST:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        await reader.readuntil(b"\r\n\r\na")

    assert echo.targets == [b"/a"]


async def test_pipelined_requests_are_answered_in_order() -> None:
    paths = [b"/p%d" % number for number in range(3000)]
    async with running_server() as (address, echo, _), connect(address) as (reader, writer):
        writer.writelines(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n" for path in paths)
        writer.write_eof()
        text = await reader.read()

    assert echo.targets == paths
    assert re.findall(rb"\r\n\r\n(p\d+)", text.replace(b"HTTP", b"\r\nHTTP")) == [path[1:] for path in paths]


async def test_pipelining_client_does_not_delay_others() -> None:
    async with (
        running_server() as (address, echo, _),
        connect(address) as (_, pipelining),
        connect(address) as (reader, writer),
    ):
        pipelining.write(REQUEST * 9000)
        await asyncio.sleep(0)
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\na")

        assert len(echo.targets) < 500


async def test_client_that_does_not_read_is_paused_and_then_closed() -> None:
    async with running_server(SHORT_LIMITS) as (address, echo, server), connect(address) as (_, writer):
        writer.write(b"GET /100000 HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        while not echo.targets or server.open_connections:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.05)

        assert len(echo.targets) < 200


async def test_client_that_reads_late_gets_every_response() -> None:
    async with running_server() as (address, _, _), connect(address) as (reader, writer):
        writer.write(b"GET /100000 HTTP/1.1\r\nHost: x\r\n\r\n" * 400)
        await asyncio.sleep(0.2)
        for _ in range(400):
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(100000)


async def test_active_connection_outlives_the_request_timeout() -> None:
    limits = Limits(request_seconds=1.5, sweep_seconds=0.05)
    async with running_server(limits) as (address, _, _), connect(address) as (reader, writer):
        for _ in range(5):
            writer.write(REQUEST)
            await reader.readuntil(b"\r\n\r\na")
            await asyncio.sleep(0.5)


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        pytest.param(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + REQUEST, [200], id="close"),
        pytest.param(b"GET /a HTTP/1.0\r\nHost: x\r\n\r\n" + REQUEST, [200], id="HTTP/1.0"),
        pytest.param(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n" + REQUEST, [200], id="a body"),
        pytest.param(REQUEST + b"rubbish\r\n\r\n" + REQUEST, [200, 400], id="rubbish"),
        pytest.param(REQUEST * 200 + b"rubbish\r\n\r\n", [200] * 200 + [400], id="rubbish after many requests"),
        pytest.param(REQUEST + b"A: b\r\n" * 1000, [200, 431], id="headers without a request"),
        pytest.param(REQUEST + REQUEST[:-2] + b"A: b\r\n" * 1000, [200, 431], id="headers without an end"),
    ],
)
async def test_last_response_reaches_a_client_that_is_still_sending(sent: bytes, statuses: list[int]) -> None:
    async with running_server(SHORT_LIMITS) as (address, _, _), connect(address) as (reader, writer):
        writer.write(sent + b"x" * 3_000_000)
        text = await reader.read()

    assert [int(status) for status in STATUS_LINE.findall(text)] == statuses
    assert b"connection: close" in text.lower()


async def test_client_that_keeps_sending_after_the_last_response_is_closed() -> None:
    async with running_server(SHORT_LIMITS) as (address, _, server), connect(address) as (reader, writer):
        writer.write(b"rubbish\r\n\r\n")
        await reader.read()
        while server.open_connections:
            writer.write(b"x")
            await asyncio.sleep(0.02)


async def test_client_that_resets_the_connection_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    async with running_server() as (address, _, server):
        for sent in (b"", b"GET", REQUEST, b"rubbish\r\n\r\n", REQUEST * 100):
            host, _, port = address.rpartition(":")
            with socket.create_connection((host, int(port))) as client:
                client.sendall(sent)
                # Makes close() reset the connection.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.sleep(0.1)

        assert server.open_connections == 0
    assert caplog.text == ""
