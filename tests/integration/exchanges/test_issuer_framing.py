"""A token that was received is not lost because of the rest of the HTTP response."""

import asyncio
import ssl

import pytest
from aiohttp import web as server

from keyturn.core.errors import UnavailableError
from keyturn.exchanges.issuer_http import Form, IssuerResponse
from keyturn.exchanges.transmission import Transmission
from tests.support.cases import cases
from tests.support.exchange_steps import issuer_client
from tests.support.tls import CERTIFICATE, served

pytestmark = pytest.mark.usefixtures("all_closed")
TRUSTED = ssl.create_default_context(cadata=CERTIFICATE.ca)
BODY = b'{"refresh_token": "next"}'
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNK = OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n"
TOO_LONG = OK + b"Content-Length: 1000\r\n\r\n"


async def post(response: bytes, *, closes: bool = True) -> IssuerResponse:
    """Send a form to an issuer that returns these bytes."""

    async def send(request: server.Request) -> server.Response:
        assert request.transport
        request.transport.write(response)
        if closes:
            request.transport.close()
        while not request.transport.is_closing():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.02)
        return server.Response()

    client = issuer_client(timeout_seconds=2)
    async with served(send) as issuer:
        return await client.post("oauthToken", client.prepare(Form(issuer.url(), [], {}, TRUSTED)), Transmission())


@cases(
    "response, closes",
    {
        "a year with 20 digits": (
            OK + LENGTH + b"Date: Mon, 01 Jan 99999999999999999999 00:00:00 GMT\r\n\r\n" + BODY,
            True,
        ),
        "a long header": (OK + LENGTH + b"Set-Cookie: a=" + b"x" * 20_000 + b"\r\n\r\n" + BODY, True),
        "many headers": (OK + LENGTH + b"Set-Cookie: a=b\r\n" * 500 + b"\r\n" + BODY, True),
        "a length that is too long": (TOO_LONG + BODY, True),
        "a length that is too long, and no end": (TOO_LONG + BODY, False),
        "no last chunk": (CHUNK, True),
        "no last chunk, and no end": (CHUNK, False),
        "no length, and no end": (OK + b"\r\n" + BODY, False),
    },
)
async def test_token_in_a_malformed_response_is_read(response: bytes, *, closes: bool) -> None:
    assert (await post(response, closes=closes)).members == {"refresh_token": "next"}


@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize("body", [BODY[:-1], b"access_token=a&refresh_token=ne", b""])
async def test_incomplete_body_leaves_the_outcome_unknown(body: bytes, *, closes: bool) -> None:
    with pytest.raises(UnavailableError, match="no complete response") as raised:
        await post(TOO_LONG + body, closes=closes)

    assert raised.value.outcome_unknown
