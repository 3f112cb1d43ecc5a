import asyncio

import pytest

from keyturn.sidecar.connection import Limits
from tests.support.raw_http import QUICK, REQUEST, connected, listening, read_end


@pytest.mark.parametrize("sends", [pytest.param(b"", id="nothing"), pytest.param(b"G", id="a byte at a time")])
async def test_who_brings_no_whole_request_is_closed(sends: bytes) -> None:
    async with listening(QUICK) as (at, echo, _), connected(at) as (reader, writer):
        ended = asyncio.create_task(read_end(reader))
        while not ended.done():
            writer.write(sends)
            await asyncio.sleep(0.02)

    assert echo.asked == []


async def test_where_there_are_too_many_the_one_goes_that_was_silent_longest() -> None:
    async with listening(QUICK) as (at, _, _), connected(at) as (oldest, _), connected(at) as (reader, writer):
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\na")
        async with connected(at), connected(at) as (newest, asking):
            asking.write(REQUEST)
            await newest.readuntil(b"\r\n\r\na")

            assert await read_end(oldest) in (b"", b"reset")
            writer.write(REQUEST)
            await reader.readuntil(b"\r\n\r\na")


async def test_a_flood_of_connections_never_opens_more() -> None:
    limits, most = Limits(connections=20), 0
    async with listening(limits) as (at, _, listener):
        host, _, port = at.rpartition(":")
        opening = asyncio.gather(*(asyncio.open_connection(host, int(port)) for _ in range(200)))
        while not opening.done():
            await asyncio.sleep(0)
            most = max(most, len(listener._port.open))
        for _, writer in await opening:
            writer.close()

    assert most == limits.connections


async def test_at_the_end_what_was_asked_is_answered_and_nobody_new_is_let_in() -> None:
    async with (
        listening() as (at, _, listener),
        connected(at) as idle,
        connected(at) as asking,
        connected(at) as late,
    ):
        late[1].write(REQUEST[:9])
        await asyncio.sleep(0.05)
        asking[1].write(REQUEST)
        closing = asyncio.create_task(listener.close())
        await asyncio.sleep(0.01)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*at.split(":"))
        await asyncio.sleep(0.2)
        late[1].write(REQUEST[9:])
        answers = [await reader.read() for reader, _ in (idle, asking, late)]
        await closing

    assert answers[0] == b""
    assert [answer.endswith(b"\r\n\r\na") for answer in answers[1:]] == [True, True]
    assert all(b"connection: close" in answer for answer in answers[1:])


async def test_the_end_waits_for_nobody_for_long() -> None:
    limits = Limits(drain_seconds=0.3)
    async with listening(limits) as (at, _, listener), connected(at) as (reader, writer):
        writer.write(REQUEST[:9])
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            await listener.close()

        assert await read_end(reader) in (b"", b"reset")
