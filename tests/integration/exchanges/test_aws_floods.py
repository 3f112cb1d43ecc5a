"""An AWS endpoint that sends without end occupies neither the memory nor all threads."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing

import pytest
from botocore.awsrequest import AWSResponse

from keyturn.core.errors import KeyturnError, UnavailableError
from keyturn.core.settings import AwsSettings
from keyturn.exchanges.aws import Aws
from tests.support.cases import cases
from tests.support.emulator.client import Emulator, endpoints
from tests.support.exchange_steps import assume_role, aws, get_access_token
from tests.support.garbage import counted_objects

NAMESPACE = f"<a xmlns='{'z' * 20_000}'>" + "".join(f"<a{number}/>" for number in range(1000)) + "</a>"
START = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\n"


@asynccontextmanager
async def served(send: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """Yield the URL of a server that sends to each client until it is disconnected."""
    tasks = set[asyncio.Task[None]]()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            while not writer.is_closing():
                await send(writer)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
        server.close()


async def fail_access_token(client: Aws) -> UnavailableError:
    with pytest.raises(UnavailableError) as raised:
        await get_access_token(client, "refresh")
    return raised.value


async def test_endless_body_is_cut() -> None:
    bytes_sent = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal bytes_sent
        block = START + b"\r\n" if not bytes_sent else b" " * 65536
        bytes_sent += len(block)
        writer.write(block)
        await writer.drain()

    async with served(flood) as url:
        with closing(aws(AwsSettings(endpoints=endpoints(url)), timeout_seconds=10)) as client:
            error = await fail_access_token(client)

    assert error.message == "License Manager GetAccessToken did not respond in us-east-1 (ConnectionClosedError)"
    # Three attempts, and what was on its way.
    assert bytes_sent < 32 * 2**20


@cases(
    "response",
    {
        "a refusal": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}",
        "too large a body": START + b"Content-Length: %d\r\n\r\n" % 2**21 + bytes(2**21),
    },
)
async def test_failed_response_is_freed_at_once(response: bytes) -> None:
    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(response)
        await writer.drain()
        await asyncio.sleep(5)

    async with served(send) as url:
        with closing(aws(AwsSettings(endpoints=endpoints(url)))) as client, counted_objects(AWSResponse) as count:
            for _ in range(3):
                with pytest.raises(KeyturnError):
                    await get_access_token(client, "refresh")

            assert count() == 0


@cases(
    "body",
    {
        "many elements": b"<a>" + b"<a b=''/>" * 20_000 + b"</a>",
        "default attributes": b"<!DOCTYPE a [<!ATTLIST b c CDATA '"
        + b"c" * 10_000
        + b"'>]><a>"
        + b"<b/>" * 1000
        + b"</a>",
        "entities": b"<!DOCTYPE a [<!ENTITY x '" + b"<b/>" * 1000 + b"'>]><a>" + b"&x;" * 1900 + b"</a>",
        "entities in UTF-16": "<!DOCTYPE a [<!ENTITY x 'x'>]><a>&x;</a>".encode("utf-16"),
        "a long namespace": NAMESPACE.encode(),
        # As bytes, it would end at its first character, which consists of two quotes.
        "a long namespace in UTF-16": NAMESPACE.replace("z", "\u2727").encode("utf-16-le"),
    },
)
async def test_body_that_would_take_much_memory_is_not_parsed(body: bytes) -> None:
    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(START + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        await asyncio.sleep(5)

    async with served(send) as url:
        with closing(aws(AwsSettings(endpoints=endpoints(url)))) as client, pytest.raises(UnavailableError) as raised:
            await assume_role(client, "token")

    assert raised.value.message.endswith("did not respond in us-east-1 (ConnectionClosedError)")


@cases(
    "head",
    {
        "large headers": START + b"".join(b"X-%d: %s\r\n" % (number, b"x" * 8000) for number in range(9)),
        "many interim responses": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 2000 + START,
        "not HTTP": b"SSH-2.0-server\r\n",
    },
)
async def test_head_that_is_too_large_or_not_http_is_refused(head: bytes) -> None:
    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(head + b'Content-Length: 22\r\n\r\n{"AccessToken":"token"}')
        await writer.drain()
        await asyncio.sleep(5)

    async with served(send) as url:
        with closing(aws(AwsSettings(endpoints=endpoints(url)))) as client:
            error = await fail_access_token(client)

    assert error.message == "License Manager GetAccessToken did not respond in us-east-1 (ConnectionClosedError)"


async def test_endpoint_that_never_ends_occupies_few_threads(
    client: Aws, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = 0

    async def drip(writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(START + b"X-Slow: ")
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.01)

    async with served(drip) as url:
        settings = AwsSettings(endpoints=endpoints(emulator.url) | {"license-manager": url})
        token = (await get_access_token(client, emulator.refresh_token())).access_token
        assert token
        with closing(aws(settings, threads=1)) as slow_client:
            with monkeypatch.context() as patch:
                patch.setattr(slow_client, "_timeout_seconds", 1)
                errors = [await fail_access_token(slow_client) for _ in range(6)]
            assert (await assume_role(slow_client, token.value)).credentials

    refused = "License Manager GetAccessToken was not called: earlier calls in us-east-1 have not ended"
    assert [error.message == refused for error in errors] == [False] * 4 + [True] * 2
    assert connections == 4
