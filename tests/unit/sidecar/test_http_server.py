import asyncio

import pytest

from keyturn.sidecar.http_connection import Limits
from tests.support.raw_http import REQUEST, SHORT_LIMITS, connect, read_until_closed, running_server


@pytest.mark.parametrize("sent", [pytest.param(b"", id="nothing"), pytest.param(b"G", id="a byte at a time")])
async def test_client_without_a_complete_request_is_closed(sent: bytes) -> None:
    async with running_server(SHORT_LIMITS) as (address, echo, _), connect(address) as (reader, writer):
        closed = asyncio.create_task(read_until_closed(reader))
        while not closed.done():
            writer.write(sent)
            await asyncio.sleep(0.02)

    assert echo.targets == []


async def test_longest_idle_connection_makes_room_for_a_new_one() -> None:
    async with (
        running_server(SHORT_LIMITS) as (address, _, _),
        connect(address) as (longest_idle, _),
        connect(address) as (reader, writer),
    ):
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\na")
        async with connect(address), connect(address) as (newest, newest_writer):
            newest_writer.write(REQUEST)
            await newest.readuntil(b"\r\n\r\na")

            assert await read_until_closed(longest_idle) in (b"", b"reset")
            writer.write(REQUEST)
            await reader.readuntil(b"\r\n\r\na")


async def test_flood_of_connections_stays_within_the_limit() -> None:
    limits, most = Limits(connections=20), 0
    async with running_server(limits) as (address, _, server):
        host, _, port = address.rpartition(":")
        flood = asyncio.gather(*(asyncio.open_connection(host, int(port)) for _ in range(200)))
        while not flood.done():
            await asyncio.sleep(0)
            most = max(most, server.open_connections)
        for _, writer in await flood:
            writer.close()

    assert most == limits.connections


async def test_close_answers_open_requests_and_accepts_no_new_client() -> None:
    async with (
        running_server() as (address, _, server),
        connect(address) as idle,
        connect(address) as active,
        connect(address) as late,
    ):
        late[1].write(REQUEST[:9])
        await asyncio.sleep(0.05)
        active[1].write(REQUEST)
        closing = asyncio.create_task(server.close())
        await asyncio.sleep(0.01)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address.split(":"))
        await asyncio.sleep(0.2)
        late[1].write(REQUEST[9:])
        responses = [await reader.read() for reader, _ in (idle, active, late)]
        await closing

    assert responses[0] == b""
    assert [response.endswith(b"\r\n\r\na") for response in responses[1:]] == [True, True]
    assert all(b"connection: close" in response for response in responses[1:])


async def test_close_does_not_wait_for_an_unfinished_request() -> None:
    limits = Limits(drain_seconds=0.3)
    async with running_server(limits) as (address, _, server), connect(address) as (reader, writer):
        writer.write(REQUEST[:9])
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            await server.close()

        assert await read_until_closed(reader) in (b"", b"reset")
