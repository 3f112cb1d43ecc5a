"""Whatever can fail without the service fails in the preparation, before anything is sent."""

import asyncio
import itertools
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from keyturn.core.errors import KeyturnError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.core.settings import AwsSettings, IssuerSettings
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.aws_errors import AwsOperation
from keyturn.exchanges.registry import prepare
from keyturn.exchanges.transmission import Send, Transmission
from keyturn.reconcile.token_refresh import BEGIN_SECONDS, CONSUME_SECONDS
from tests.support.cases import cases
from tests.support.dependencies import request
from tests.support.emulator.client import Emulator, endpoints
from tests.support.emulator.constants import APPLICATION_ARN, USER_KEY_ID, USER_SECRET_KEY
from tests.support.exchange_steps import OAUTH_OPERATION, OauthIssuer, aws, context, issuer_client, refresh_request
from tests.support.manifests.tokens import TOKEN_AND_KEYS, center
from tests.support.tls import CERTIFICATE, SERVER_CONTEXT

CREATE = "CreateTokenWithIAM"
USER = Credentials(USER_KEY_ID, USER_SECRET_KEY)
KEY_FROM = {"secretKeyRef": {"name": "key", "key": "key"}}
KEY_JWT = {"clientAuthentication": "private_key_jwt", "clientSecretFrom": None, "clientKeyFrom": KEY_FROM}


@cases(
    "changes, values, reason",
    {
        "a certificate that is none": ({}, {"ca": "planted"}, "InvalidSpec"),
        "a certificate that is binary": ({}, {"ca": "\x00\x01é"}, "InvalidSpec"),
        "a key that is none": (KEY_JWT, {"key": "planted"}, "InvalidSpec"),
        "a key with an accent": (KEY_JWT, {"key": "-----BEGIN PRIVATE KEY-----\né\n"}, "InvalidSpec"),
        "a host that the settings forbid": ({"tokenUrl": "https://issuer.example/token"}, {}, "InvalidSpec"),
        "no host": ({"tokenUrl": "https://:443/token"}, {}, "InvalidSpec"),
        "a forbidden address": ({"tokenUrl": "https://169.254.169.254/token"}, {}, "Unreachable"),
    },
)
async def test_oauth_preparation_refuses_what_cannot_be_sent(
    changes: dict[str, Any], values: dict[str, str], reason: str, issuer: OauthIssuer, emulator: Emulator
) -> None:
    allowed_hosts = ("127.0.0.1", "169.254.169.254")
    client = issuer_client(IssuerSettings(allowed_hosts=allowed_hosts, allowed_private_networks=("127.0.0.0/8",)))
    token_request = refresh_request(emulator, **changes)
    exchange_context = context(issuer.client, client, issuer.values | values)

    with pytest.raises(KeyturnError) as raised:
        await prepare(
            exchange_context, token_request, token_request.spec.exchanges[0], PipelineValues(Token("planted"))
        )

    assert (raised.value.reason, emulator.calls(OAUTH_OPERATION)) == (reason, 0)
    assert "planted" not in raised.value.message


async def test_oauth_preparation_sends_nothing(issuer: OauthIssuer, emulator: Emulator) -> None:
    token_request, token = refresh_request(emulator), emulator.oauth_refresh_token()
    exchange_context = context(issuer.client, issuer.issuers, issuer.values)
    send = await prepare(exchange_context, token_request, token_request.spec.exchanges[0], PipelineValues(Token(token)))
    calls, transmission = emulator.calls(OAUTH_OPERATION), Transmission()
    results = await send(transmission)

    assert (calls, transmission.has_begun, results.access_token is None) == (0, True, False)


async def prepare_create_token(client: Aws, token: str) -> Send:
    step = {"clientId": APPLICATION_ARN, "grantType": "refresh_token", "redirectUri": None, "codeFrom": None}
    token_request = request(source=TOKEN_AND_KEYS["source"], exchanges=center(**step)["exchanges"])
    values = PipelineValues(Token(token), credentials=USER)
    return await prepare(context(client), token_request, token_request.spec.exchanges[0], values)


async def test_transmission_to_aws_begins_before_the_request(client: Aws, emulator: Emulator) -> None:
    send, transmission = await prepare_create_token(client, "planted"), Transmission()
    with pytest.raises(KeyturnError):
        await send(transmission)

    assert (transmission.has_begun, emulator.calls(CREATE)) == (True, 1)


async def test_abandoned_request_to_aws_is_not_sent(client: Aws, emulator: Emulator) -> None:
    send, transmission = await prepare_create_token(client, "planted"), Transmission()
    assert transmission.abandon() is False

    with pytest.raises(KeyturnError):
        await send(transmission)
    assert emulator.calls(CREATE) == 0


async def test_transmission_to_a_closed_port_of_aws_does_not_begin() -> None:
    with closing(aws(AwsSettings(endpoints=endpoints("http://127.0.0.1:9")))) as client:
        send, transmission = await prepare_create_token(client, "planted"), Transmission()
        with pytest.raises(KeyturnError):
            await send(transmission)

    assert not transmission.has_begun


@pytest.mark.parametrize("ends_by", ["abandon", "deadline"])
async def test_request_to_aws_is_not_sent_if_connecting_takes_too_long(ends_by: str, tmp_path: Path) -> None:
    """The thread continues with the handshake after its caller has stopped waiting, or after SIGCONT."""
    ca, seconds = tmp_path / "ca.pem", itertools.count(step=10)
    ca.write_text(CERTIFICATE.ca)
    transmission = Transmission(lambda: next(seconds))
    if ends_by == "deadline":
        transmission.limit(8)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = AwsSettings(endpoints=endpoints(f"https://127.0.0.1:{listener.getsockname()[1]}"), ca_bundle=str(ca))
        with closing(aws(settings)) as client:
            sending = asyncio.ensure_future((await prepare_create_token(client, "planted"))(transmission))
            connection, _ = await asyncio.to_thread(listener.accept)
            if ends_by == "abandon":
                assert transmission.abandon() is False
            received = await asyncio.to_thread(receive_in_tls, connection)
            with pytest.raises(KeyturnError):
                await sending

    assert received == b""


def test_response_of_aws_to_a_token_is_awaited(client: Aws) -> None:
    """However long the name server, the connection and the rate limit delay the request."""
    read_timeout = client._clients.get("sso-oidc", "us-east-1", attempts=1).meta.config.read_timeout

    assert BEGIN_SECONDS + read_timeout < CONSUME_SECONDS


def receive_in_tls(connection: socket.socket) -> bytes:
    with SERVER_CONTEXT.wrap_socket(connection, server_side=True) as tls:
        return tls.recv(1)


@pytest.mark.parametrize("parameters", [{}, {"clientId": 7, "grantType": "refresh_token"}, {"unknown": "x"}], ids=str)
async def test_request_that_botocore_cannot_build_is_not_begun(
    parameters: dict[str, Any], client: Aws, emulator: Emulator
) -> None:
    operation = AwsOperation("example", "sso-oidc", "create_token_with_iam", "Example", {}, attempts=1)
    transmission = Transmission()
    with pytest.raises(KeyturnError):
        await client.call(operation, "us-east-1", parameters, USER, transmission)

    assert (transmission.has_begun, emulator.calls(CREATE)) == (False, 0)
