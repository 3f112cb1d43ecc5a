import asyncio
import re
import resource
import socket
import struct
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import h11
import pytest

from keyturn.sidecar.http_server import Limits
from tests.support.cases import cases
from tests.support.garbage import counted_objects
from tests.support.raw_http import REQUEST, SHORT_LIMITS, connect, read_until_closed, running_server, send_raw

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


async def test_pipelined_responses_are_sent_in_order() -> None:
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


class Iterations:
    """Counts calls of `note` in each iteration of the event loop."""

    def __init__(self) -> None:
        self.calls = Counter[int]()
        self._iteration = 0

    def note(self) -> None:
        self.calls[self._iteration] += 1

    async def count(self) -> None:
        while True:
            self._iteration += 1
            await asyncio.sleep(0)


async def test_iteration_of_the_event_loop_serves_few_requests() -> None:
    iterations = Iterations()
    async with running_server() as (address, echo, _), AsyncExitStack() as stack:
        echo.on_request = iterations.note
        counting = asyncio.create_task(iterations.count())
        clients = [await stack.enter_async_context(connect(address)) for _ in range(60)]
        for _, writer in clients:
            writer.write(REQUEST * 10)
        while len(echo.targets) < 600:  # noqa: ASYNC110 - there is no event for a request
            await asyncio.sleep(0)
        counting.cancel()

    assert max(iterations.calls.values()) <= 8


async def test_iteration_of_the_event_loop_sends_few_parts_of_bodies() -> None:
    iterations = Iterations()
    async with running_server() as (address, echo, _), AsyncExitStack() as stack:
        echo.on_part = iterations.note
        counting = asyncio.create_task(iterations.count())
        clients = [await stack.enter_async_context(connect(address)) for _ in range(20)]
        for _, writer in clients:
            writer.write(b"GET /parts HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.gather(*(reader.readuntil(b"0123456789" * 100) for reader, _ in clients))
        counting.cancel()

    assert iterations.calls.total() == 20_000
    assert max(iterations.calls.values()) <= 8


async def test_client_that_does_not_read_is_paused_and_then_closed() -> None:
    async with running_server(SHORT_LIMITS) as (address, echo, server), connect(address) as (_, writer):
        writer.write(b"GET /100000 HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        while not echo.targets or server.open_connections:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.05)

        assert len(echo.targets) < 200


@pytest.mark.parametrize(("method", "body"), [("GET", "0123456789" * 100), ("HEAD", "")])
async def test_body_in_parts_is_sent_as_one_response(method: str, body: str) -> None:
    async with running_server() as (address, *_):
        status, headers, received = await send_raw(address, f"{method} /parts HTTP/1.1\r\nHost: x\r\n\r\n" * 2)

    first, _, second = received.partition("HTTP/1.1 200")
    assert (status, headers["content-length"], first) == (200, "1000", body)
    assert second.endswith(f"\r\n\r\n{body}")


async def test_body_in_parts_does_not_delay_other_tasks() -> None:
    async with running_server() as (address, *_), connect(address) as (reader, writer):
        writer.write(b"GET /parts HTTP/1.1\r\nHost: x\r\n\r\n")
        receiving, steps = asyncio.create_task(reader.readuntil(b"0123456789" * 100)), 0
        while not receiving.done():
            await asyncio.sleep(0)
            steps += 1

    assert steps >= 1000


async def test_slow_reader_receives_every_response() -> None:
    async with running_server() as (address, _, _), connect(address) as (reader, writer):
        writer.write(b"GET /100000 HTTP/1.1\r\nHost: x\r\n\r\n" * 400)
        await asyncio.sleep(0.2)
        for _ in range(400):
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(100000)


async def test_active_connection_outlives_the_request_timeout() -> None:
    limits = Limits(request_seconds=0.8)
    async with running_server(limits) as (address, _, _), connect(address) as (reader, writer):
        for _ in range(5):
            writer.write(REQUEST)
            await reader.readuntil(b"\r\n\r\na")
            await asyncio.sleep(0.25)


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        pytest.param(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + REQUEST, [200], id="close"),
        pytest.param(b"GET /a HTTP/1.0\r\nHost: x\r\n\r\n" + REQUEST, [200], id="HTTP/1.0"),
        pytest.param(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n" + REQUEST, [200], id="with a body"),
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


def send_all_then_receive(address: str, data: bytes) -> bytes:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=15) as client:
        client.sendall(data)
        return client.recv(65536)


async def test_client_may_send_a_large_body_before_it_reads() -> None:
    request = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n"
    async with running_server(Limits(linger_seconds=15)) as (address, _, _):
        response = await asyncio.to_thread(send_all_then_receive, address, request + b"x" * 20_000_000)

    assert response.endswith(b"\r\n\r\na")


async def test_last_response_ends_the_stream_immediately() -> None:
    limits = Limits(linger_seconds=60)
    async with running_server(limits) as (address, _, _), connect(address) as (reader, writer), asyncio.timeout(10):
        writer.write(b"rubbish\r\n\r\n")

        assert STATUS_LINE.findall(await reader.read()) == [b"400"]


async def test_client_that_keeps_sending_after_the_last_response_is_closed() -> None:
    async with running_server(SHORT_LIMITS) as (address, _, server), connect(address) as (reader, writer):
        writer.write(b"rubbish\r\n\r\n")
        await reader.read()
        while server.open_connections:
            writer.write(b"x")
            await asyncio.sleep(0.02)


async def test_reset_connection_is_removed(caplog: pytest.LogCaptureFixture) -> None:
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


async def test_client_with_many_connections_displaces_only_itself() -> None:
    async with (
        running_server(SHORT_LIMITS) as (address, _, server),
        connect(address) as (reader, writer),
        AsyncExitStack() as stack,
    ):
        for _ in range(20):
            flooding, _ = await stack.enter_async_context(connect(address, source="127.0.0.2"))
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\na")

        assert server.open_connections == 3
        assert not flooding.at_eof()


async def test_longest_idle_of_many_clients_makes_room_for_a_new_one() -> None:
    async with running_server(SHORT_LIMITS) as (address, _, server), AsyncExitStack() as stack:
        clients = [
            (await stack.enter_async_context(connect(address, source=f"127.0.0.{number}")))[0]
            for number in range(2, 12)
        ]
        for displaced in clients[:-3]:
            assert await read_until_closed(displaced) in (b"", b"reset")

        assert server.open_connections == 3
        assert not any(newest.at_eof() for newest in clients[-3:])


async def test_displaced_connection_is_not_reported_as_malformed() -> None:
    async with (
        running_server(Limits(connections=1)) as (address, echo, _),
        connect(address) as (displaced, writer),
    ):
        writer.write(REQUEST[:9])
        await asyncio.sleep(0.05)
        async with connect(address):
            assert await read_until_closed(displaced) in (b"", b"reset")

    assert echo.errors == []


async def test_connection_flood_stays_within_the_limit() -> None:
    limits, highest_count = Limits(connections=20), 0
    async with running_server(limits) as (address, _, server):
        host, _, port = address.rpartition(":")
        flood = asyncio.gather(*(asyncio.open_connection(host, int(port)) for _ in range(200)))
        while not flood.done():
            await asyncio.sleep(0)
            highest_count = max(highest_count, server.open_connections)
        for _, writer in await flood:
            writer.close()

    assert highest_count == limits.connections


async def test_task_of_a_displaced_connection_ends() -> None:
    tasks, has_arrived = len(asyncio.all_tasks()), asyncio.Event()
    async with running_server(Limits(connections=1)) as (address, echo, _), AsyncExitStack() as stack:
        echo.on_request = has_arrived.set
        for _ in range(5):
            reader, writer = await stack.enter_async_context(connect(address))
            writer.write(REQUEST.replace(b"/a", b"/never"))
            await has_arrived.wait()
            has_arrived.clear()
        assert len(asyncio.all_tasks()) == tasks + 1
        assert not reader.at_eof()


async def displace(_: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
    writer.write(REQUEST[:9])
    await asyncio.sleep(0.05)
    async with connect(address) as (_, newer):
        newer.close()
        await asyncio.sleep(0.05)


async def send_garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: str) -> None:
    writer.write(b"\0\r\n\r\n")
    await reader.read()


@cases("end", {"displaced": displace, "malformed request": send_garbage})
async def test_closed_connection_is_freed_at_once(
    end: Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Awaitable[None]],
) -> None:
    async with running_server(Limits(connections=1)) as (address, _, server):
        with counted_objects(h11.Connection) as count:
            for _ in range(5):
                async with connect(address) as (reader, writer):
                    await end(reader, writer, address)
            while server.open_connections:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.01)

            assert count() == 0


@pytest.mark.parametrize(("open_files", "connections"), [(64, 16), (1024, 256)])
def test_limit_of_open_files_limits_the_connections(open_files: int, connections: int) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, before[1]))
    try:
        assert Limits().connections == connections
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_unread_responses_of_all_clients_together_are_bounded() -> None:
    request, size = b"GET /8000000 HTTP/1.1\r\nHost: x\r\n\r\n", 8_000_000
    async with running_server() as (address, echo, server), AsyncExitStack() as clients:
        for number in range(6):
            _, writer = await clients.enter_async_context(connect(address))
            writer.write(request)
            while len(echo.targets) <= number:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.01)
        reader, writer = await clients.enter_async_context(connect(address))
        writer.write(request)
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(size)

        assert server.open_connections <= 3


async def test_idle_connection_keeps_no_response() -> None:
    request, size = b"GET /8000000 HTTP/1.1\r\nHost: x\r\n\r\n", 8_000_000
    async with running_server() as (address, _, _), connect(address) as (reader, writer):
        tracemalloc.start()
        try:
            writer.write(request)
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(size)
            await asyncio.sleep(0.05)
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert kept < size / 8


async def test_client_that_receives_a_large_body_is_not_closed_for_others() -> None:
    request, parts = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n", 0

    def count() -> None:
        nonlocal parts
        parts += 1

    async def settled() -> None:
        before = -1
        while parts != before:
            before = parts
            await asyncio.sleep(0.05)

    async with running_server() as (address, echo, _), AsyncExitStack() as clients:
        echo.on_part = count
        reader, writer = await clients.enter_async_context(connect(address))
        writer.write(request)
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(18):
            _, other = await clients.enter_async_context(connect(address))
            other.write(request)
            await settled()
            await reader.readexactly(2**20)
            await settled()

        await reader.readexactly(2 * 2**20)


async def test_close_completes_open_requests_and_refuses_new_clients() -> None:
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


async def test_close_does_not_wait_for_idle_connections() -> None:
    limits = Limits(drain_seconds=60)
    async with running_server(limits) as (address, _, server), connect(address) as (reader, writer):
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\na")
        async with asyncio.timeout(10):
            await server.close()


async def test_close_does_not_wait_for_an_unfinished_request() -> None:
    limits = Limits(drain_seconds=0.3)
    async with running_server(limits) as (address, _, server), connect(address) as (reader, writer):
        writer.write(REQUEST[:9])
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            await server.close()

        assert await read_until_closed(reader) in (b"", b"reset")
