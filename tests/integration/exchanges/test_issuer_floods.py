"""An issuer whose response never ends cannot keep the event loop busy, wherever the response contains the bytes."""

import asyncio
import gzip
import ssl

import pytest
from aiohttp import web as server

from keyturn.core.errors import UnavailableError
from keyturn.exchanges.bounded_socket import MAX_RECEIVED_BYTES
from keyturn.exchanges.issuer_http import Form
from keyturn.exchanges.transmission import Transmission
from tests.support.cases import cases
from tests.support.exchange_steps import issuer_client
from tests.support.tls import CERTIFICATE, served

pytestmark = pytest.mark.usefixtures("all_closed")
TRUSTED = ssl.create_default_context(cadata=CERTIFICATE.ca)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"


@cases(
    "start, repeated",
    {
        "interim responses": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        "line ends": (b"", b"\r\n"),
        "an extension of a chunk": (CHUNKED + b"\r\n1;", b"a"),
        "empty members of gzip": (
            CHUNKED + b"Content-Encoding: gzip\r\n\r\n",
            b"14\r\n" + gzip.compress(b"") + b"\r\n",
        ),
    },
)
async def test_endless_response_is_cut(start: bytes, repeated: bytes) -> None:
    bytes_sent = 0

    async def flood(request: server.Request) -> server.Response:
        nonlocal bytes_sent
        transport = request.transport
        assert transport
        transport.write(start)
        block = repeated * (MAX_RECEIVED_BYTES // 4 // len(repeated))
        while not transport.is_closing():
            transport.write(block)
            bytes_sent += len(block)
            await asyncio.sleep(0.01)
        return server.Response()

    client = issuer_client(timeout_seconds=3)
    async with served(flood) as issuer:
        request = client.prepare(Form(issuer.url(), [], {}, TRUSTED))
        with pytest.raises(UnavailableError, match="no complete response") as raised:
            await client.post("oauthToken", request, Transmission())

    assert "TimeoutError" not in raised.value.message
    assert raised.value.outcome_unknown
    # What was on its way was sent in vain.
    assert bytes_sent < 40 * MAX_RECEIVED_BYTES
