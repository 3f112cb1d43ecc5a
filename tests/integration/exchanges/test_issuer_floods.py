"""No issuer keeps the event loop busy, neither with its certificates nor with a response that never ends."""

import asyncio
import gzip
import ssl
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web as server

from keyturn.core.errors import UnavailableError
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.cpu_limiter import CpuLimiter
from keyturn.exchanges.issuer_http import Form
from keyturn.exchanges.issuer_sockets import MAX_RECEIVED_BYTES
from keyturn.exchanges.registry import prepare
from keyturn.exchanges.transmission import Transmission
from tests.support.cases import cases
from tests.support.crafted_certificates import crafted_certificate
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import CLIENT_SECRET
from tests.support.event_loop import counted_iterations
from tests.support.exchange_steps import context, issuer_client, refresh_request
from tests.support.tls import CERTIFICATE, served

pytestmark = pytest.mark.usefixtures("all_closed")
TRUSTED = ssl.create_default_context(cadata=CERTIFICATE.ca)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"


async def respond(_: server.Request) -> server.Response:
    return server.json_response({"access_token": "a"})


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

    client = issuer_client()
    async with served(flood) as issuer:
        request = client.prepare(Form(issuer.url(), [], {}, TRUSTED))
        with pytest.raises(UnavailableError, match="no complete response") as raised:
            await client.post("oauthToken", request, Transmission())

    assert "TimeoutError" not in raised.value.message
    assert raised.value.outcome_unknown
    # Some bytes were on their way when the connection was closed.
    assert bytes_sent < 40 * MAX_RECEIVED_BYTES


async def test_certificates_of_an_issuer_do_not_block_the_event_loop() -> None:
    crafted = replace(CERTIFICATE, certificate=CERTIFICATE.certificate + crafted_certificate(1))
    client = issuer_client()
    async with served(respond, crafted) as issuer, counted_iterations(0.001) as iterations:
        request = client.prepare(Form(issuer.url(), [], {}, TRUSTED))
        response = await client.post("oauthToken", request, Transmission())

    assert response.status == 200
    # In the event loop, OpenSSL decodes the certificates without a pause.
    assert iterations.number > 50


async def test_bodies_are_decoded_one_at_a_time() -> None:
    """Decoding this form takes 5 MiB."""

    async def send_form(_: server.Request) -> server.Response:
        return server.Response(body=b"a=" + b"%41" * 21_000, content_type="application/x-www-form-urlencoded")

    client = issuer_client()
    async with served(send_form) as issuer:
        request = client.prepare(Form(issuer.url(), [], {}, TRUSTED))
        tracemalloc.start()
        try:
            responses = await asyncio.gather(*(client.post("oauthToken", request, Transmission()) for _ in range(16)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert all(response.members == {"a": "A" * 21_000} for response in responses)
    assert peak < 16 * 2**20


class RecordingLimiter(CpuLimiter):
    def __init__(self) -> None:
        super().__init__()
        self.namespaces = list[str]()

    async def run(self, namespace: str, compute: Callable[[], Any]) -> Any:
        self.namespaces.append(namespace)
        return await super().run(namespace, compute)


@cases("length, namespaces", {"usual": (8 * 1024, []), "large": (8 * 1024 + 1, ["billing"])})
async def test_large_response_is_decoded_by_the_cpu_limiter(length: int, namespaces: list[str]) -> None:
    """In a thread of low priority, a token would be lost if other threads kept the processor busy."""

    async def send_object(_: server.Request) -> server.Response:
        return server.Response(body=b'{"a": "b"}'.ljust(length))

    client = issuer_client()
    client.cpu_limiter = limiter = RecordingLimiter()
    async with served(send_object) as issuer:
        request = client.prepare(Form(issuer.url(), [], {}, TRUSTED, namespace="billing"))
        response = await client.post("oauthToken", request, Transmission())

    assert response.members == {"a": "b"}
    assert limiter.namespaces == namespaces


async def test_ca_bundle_does_not_block_the_event_loop(client: Aws, emulator: Emulator) -> None:
    token_request, values = refresh_request(emulator), PipelineValues(Token("planted"))
    secrets = {"client": CLIENT_SECRET, "ca": CERTIFICATE.ca * 40}
    async with counted_iterations() as iterations:
        await prepare(context(client, values=secrets), token_request, token_request.spec.exchanges[-1], values)

    # The bundle is decoded, and its 40 certificates are loaded in 10 batches.
    assert iterations.number >= 10


async def test_large_ca_bundles_in_use_are_limited(client: Aws, emulator: Emulator) -> None:
    token_request, values = refresh_request(emulator), PipelineValues(Token("planted"))
    comment = "-" * 250_000
    exchange_context = context(client, values={"client": CLIENT_SECRET, "ca": comment + CERTIFICATE.ca})
    prepared = [
        await prepare(exchange_context, token_request, token_request.spec.exchanges[-1], values) for _ in range(2)
    ]
    third = asyncio.create_task(prepare(exchange_context, token_request, token_request.spec.exchanges[-1], values))
    await asyncio.sleep(0.5)
    assert not third.done()
    prepared.clear()

    await third
