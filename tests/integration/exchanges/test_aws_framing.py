"""A response of AWS is read whatever the rest of the HTTP message is, and only by the call that it belongs to."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest

from keyturn.cli.process import log_to_stderr
from keyturn.core.errors import KeyturnError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.core.settings import AwsSettings
from keyturn.exchanges.aws import Aws
from tests.support.cases import cases
from tests.support.dependencies import request
from tests.support.emulator.client import endpoints
from tests.support.exchange_steps import (
    CENTER_TOKENS,
    EXAMPLE_STEPS,
    TOKEN_AND_CREDENTIALS,
    aws,
    get_access_token,
    step,
)
from tests.support.manifests.tokens import BEARER
from tests.support.tls import CERTIFICATE, SERVER_CONTEXT

OK = b"HTTP/1.1 200 OK\r\n"
BODY = json.dumps(CENTER_TOKENS).encode()
CHUNK = OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n"
TOO_LONG = OK + b"Content-Length: 5000\r\n\r\n" + BODY


def whole(body: bytes) -> bytes:
    return OK + b"Content-Length: %d\r\n\r\n" % len(body) + body


@asynccontextmanager
async def served(
    *responses: tuple[bytes, ...], closes: bool = False, forgets: bool = False, bundle: str | None = None
) -> AsyncIterator[tuple[Aws, list[int]]]:
    """Yield a client of a server, and the number of the connection of each request.

    Each request gets one of the responses, in parts 0.2 s apart. With `forgets`, the second request on a connection
    resets it, as if a firewall had forgotten it. With `bundle`, the path of its CA, the server uses TLS.
    """
    remaining, connections, writers = list(responses), list[int](), list[asyncio.StreamWriter]()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        number = len(writers)
        with suppress(OSError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                if forgets and number in connections:
                    writer.transport.abort()
                    break
                connections.append(number)
                for index, part in enumerate(remaining.pop(0)):
                    await asyncio.sleep(0.2 * bool(index))
                    writer.write(part)
                if closes:
                    break
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=SERVER_CONTEXT if bundle else None)
    url = f"{'https' if bundle else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        with closing(aws(AwsSettings(endpoints=endpoints(url), ca_bundle=bundle))) as client:
            yield client, connections
    finally:
        for writer in writers:
            writer.transport.abort()
        server.close()
        await server.wait_closed()


async def create_token(client: Aws) -> PipelineValues:
    fields = EXAMPLE_STEPS["identityCenterCreateToken"].fields | {"grantType": BEARER}
    token_request = request(source=TOKEN_AND_CREDENTIALS, exchanges=[{"identityCenterCreateToken": fields}])
    return await step(client, PipelineValues(Token("token"), credentials=Credentials("AKIA1", "key")), token_request)


async def access_token(client: Aws) -> str:
    try:
        values = await get_access_token(client, "refresh")
    except KeyturnError as error:
        return error.message
    return values.access_token.value if values.access_token else ""


@cases(
    "interim",
    {
        "100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n",
        "102 Processing": b"HTTP/1.1 102 Processing\r\n\r\n",
        "103 Early Hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nContent-Length: 0\r\n\r\n",
        "two": b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
    },
)
async def test_interim_response_does_not_shift_responses_to_other_calls(interim: bytes) -> None:
    first, second = (whole(b'{"AccessToken": "%b"}' % name) for name in (b"first", b"second"))
    async with served((interim, first), (second,)) as (client, connections):
        tokens = [await access_token(client), await access_token(client)]

    assert tokens == ["first", "second"]
    assert connections == [1, 1]


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    path = tmp_path / "ca.crt"
    path.write_text(CERTIFICATE.ca)
    return str(path)


async def test_second_response_is_not_returned_to_the_next_call(bundle: str) -> None:
    """The second one is in the same TLS record as the first, after what http.client reads at a time."""
    first = whole(b'{"AccessToken": "first", "a": "%b"}' % (b"a" * 8192))
    second, third = (whole(b'{"AccessToken": "%b"}' % name) for name in (b"second", b"third"))
    async with served((first + second,), (third,), bundle=bundle) as (client, connections):
        tokens = [await access_token(client), await access_token(client)]

    assert tokens == ["first", "third"]
    assert connections == [1, 2]


@cases(
    "response, closes",
    {
        "an interim response": (b"HTTP/1.1 103 Early Hints\r\n\r\n" + whole(BODY), False),
        "a length that is too long": (TOO_LONG, True),
        "no last chunk": (CHUNK, True),
        "a chunk that is too short": (CHUNK.replace(b"\r\n\r\n", b"\r\n\r\nf", 1), True),
        "a byte order mark": (whole(b"\xef\xbb\xbf" + BODY), False),
        "another encoding": (whole(BODY.replace(b'"id"', b'"\xe9"')), False),
        "a control character": (whole(BODY.replace(b'"id"', b'"\n"')), False),
        "an impossible year": (OK + b"Date: Fri, 31 Dec 9999 23:59:59 GMT\r\n" + whole(BODY)[len(OK) :], False),
    },
)
async def test_refresh_token_in_a_malformed_response_is_read(response: bytes, *, closes: bool) -> None:
    async with served((response,), closes=closes) as (client, _):
        assert (await create_token(client)).refresh_token == "refresh"


@cases("response", {"a length that is too long": TOO_LONG, "no last chunk": CHUNK})
async def test_refresh_token_is_read_after_the_timeout(response: bytes) -> None:
    async with served((response,), (whole(BODY),)) as (client, connections):
        assert [(await create_token(client)).refresh_token for _ in range(2)] == ["refresh"] * 2

    # The rest of the first response could still arrive.
    assert connections == [1, 2]


async def test_refresh_token_is_not_sent_on_an_idle_connection() -> None:
    async with served(*[(b"", whole(BODY))] * 4, forgets=True) as (client, connections):
        await asyncio.gather(create_token(client), create_token(client))
        assert [(await create_token(client)).refresh_token for _ in range(2)] == ["refresh"] * 2

    # The first two calls are concurrent.
    assert sorted(connections) == [1, 2, 3, 4]


async def test_header_that_cannot_be_parsed_is_not_logged(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    log_to_stderr("info", "text")
    response = OK + b'Content-Length: 2\r\nno colon\r\nX-Token: planted\r\n{"AccessToken": "planted"}\r\n\r\n{}'
    async with served((response,), closes=True) as (client, _):
        await access_token(client)

    assert "planted" not in capsys.readouterr().err
