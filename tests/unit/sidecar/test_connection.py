import asyncio
import re
import socket
import struct

import pytest

from keyturn.sidecar.connection import Limits
from tests.support.raw_http import QUICK, REQUEST, connected, listening

ANSWERED = re.compile(rb"HTTP/1\.1 (\d+)")


async def test_a_connection_serves_one_request_after_another() -> None:
    async with listening() as (at, _, _), connected(at) as (reader, writer):
        for path in (b"first", b"second", b"third"):
            writer.write(b"GET /" + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")

            assert (await reader.readuntil(path)).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_request_may_come_in_single_bytes() -> None:
    async with listening() as (at, echo, _), connected(at) as (reader, writer):
        for byte in REQUEST:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        await reader.readuntil(b"\r\n\r\na")

    assert echo.asked == [b"/a"]


async def test_requests_that_do_not_wait_are_answered_in_their_order() -> None:
    paths = [b"/p%d" % number for number in range(3000)]
    async with listening() as (at, echo, _), connected(at) as (reader, writer):
        writer.writelines(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n" for path in paths)
        writer.write_eof()
        text = await reader.read()

    assert echo.asked == paths
    assert re.findall(rb"\r\n\r\n(p\d+)", text.replace(b"HTTP", b"\r\nHTTP")) == [path[1:] for path in paths]


async def test_while_one_sends_without_waiting_others_have_their_turn() -> None:
    async with listening() as (at, echo, _), connected(at) as (_, busy), connected(at) as (reader, writer):
        busy.write(REQUEST * 9000)
        await asyncio.sleep(0)
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\na")

        assert len(echo.asked) < 500


async def test_who_does_not_read_is_asked_no_more_and_closed_in_the_end() -> None:
    async with listening(QUICK) as (at, echo, listener), connected(at) as (_, writer):
        writer.write(b"GET /100000 HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        while not echo.asked or listener._port.open:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)

        assert len(echo.asked) < 200


async def test_who_reads_late_gets_all() -> None:
    async with listening() as (at, _, _), connected(at) as (reader, writer):
        writer.write(b"GET /100000 HTTP/1.1\r\nHost: x\r\n\r\n" * 400)
        await asyncio.sleep(0.2)
        for _ in range(400):
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(100000)


async def test_a_connection_that_goes_on_asking_is_kept() -> None:
    async with listening(Limits(request_seconds=1.5, sweep_seconds=0.05)) as (at, _, _), connected(at) as kept:
        for _ in range(5):
            kept[1].write(REQUEST)
            await kept[0].readuntil(b"\r\n\r\na")
            await asyncio.sleep(0.5)


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        pytest.param(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + REQUEST, [200], id="Close"),
        pytest.param(b"GET /a HTTP/1.0\r\nHost: x\r\n\r\n" + REQUEST, [200], id="HTTP/1.0"),
        pytest.param(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n" + REQUEST, [200], id="a body"),
        pytest.param(REQUEST + b"rubbish\r\n\r\n" + REQUEST, [200, 400], id="rubbish"),
        pytest.param(REQUEST * 200 + b"rubbish\r\n\r\n", [200] * 200 + [400], id="rubbish after many"),
        pytest.param(REQUEST + b"A: b\r\n" * 1000, [200, 431], id="headers without a request"),
        pytest.param(REQUEST + REQUEST[:-2] + b"A: b\r\n" * 1000, [200, 431], id="headers without end"),
    ],
)
async def test_the_last_answer_says_so_and_reaches_who_is_still_sending(sent: bytes, statuses: list[int]) -> None:
    async with listening(QUICK) as (at, _, _), connected(at) as (reader, writer):
        writer.write(sent + b"x" * 3_000_000)
        text = await reader.read()

    assert [int(status) for status in ANSWERED.findall(text)] == statuses
    assert b"connection: close" in text.lower()


async def test_who_sends_on_after_the_last_answer_is_closed() -> None:
    async with listening(QUICK) as (at, _, listener), connected(at) as (reader, writer):
        writer.write(b"rubbish\r\n\r\n")
        await reader.read()
        while listener._port.open:
            writer.write(b"x")
            await asyncio.sleep(0.02)


async def test_who_goes_in_the_middle_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    async with listening() as (at, _, listener):
        for sent in (b"", b"GET", REQUEST, b"rubbish\r\n\r\n", REQUEST * 100):
            host, _, port = at.rpartition(":")
            with socket.create_connection((host, int(port))) as client:
                client.sendall(sent)
                # Closing then is a reset.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.sleep(0.1)

        assert listener._port.open == set()
    assert caplog.text == ""
