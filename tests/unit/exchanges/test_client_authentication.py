"""The assertions with which OAuth clients authenticate."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from keyturn.api.exchanges.oauth import OauthTokenSpec
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.context import Call
from keyturn.exchanges.oauth import authenticate_client
from tests.support.cases import cases
from tests.support.client_key_forms import (
    CERTIFICATE,
    CERTIFICATE_PEM,
    EC_JWK,
    JWK,
    KEY,
    OTHER_CERTIFICATE,
    OTHER_CERTIFICATE_PEM,
    PEM,
    SEC1,
    in_base64,
    jwk_set,
    private,
)
from tests.support.clock import real_now
from tests.support.dependencies import request, signed
from tests.support.event_loop import counted_iterations
from tests.support.exchange_steps import aws, context
from tests.support.manifests.clients import pipeline, with_assertion, with_key
from tests.support.manifests.parts import secret_at

URL = "https://issuer.example/token"
HOUR = timedelta(hours=1)
DER = CERTIFICATE.public_bytes(Encoding.DER)
ALL_HEADERS = {"certificateHeaders": ["x5t", "x5t#S256", "x5c"]}
CERTIFICATE_FROM = secret_at("certificate", "tls.crt")


@pytest.fixture(scope="module")
def client() -> Iterator[Aws]:
    with closing(aws()) as client:
        yield client


async def fields(
    client: Aws, spec: dict[str, Any], secrets: Mapping[str, str], values: PipelineValues | None = None
) -> dict[str, str]:
    """The fields with which the client of the last exchange authenticates; `secrets` are by the name of the Secret."""
    exchange = request(**spec).spec.exchanges[-1].exchange
    assert isinstance(exchange, OauthTokenSpec)
    call = Call(context(client, values=secrets), "billing", "us-east-1", "acme")
    headers, form = await authenticate_client(call, exchange, values or PipelineValues())
    assert headers == {}
    return dict(form)


async def refusal(client: Aws, *arguments: Any) -> RefusedError:
    with pytest.raises(RefusedError) as raised:
        await fields(client, *arguments)
    return raised.value


async def signed_assertion(client: Aws, spec: dict[str, Any], **secrets: str) -> tuple[dict[str, Any], dict[str, Any]]:
    form = await fields(client, spec, {"key": PEM} | secrets)
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    decoded = jwt.decode_complete(form["client_assertion"], options={"verify_signature": False})
    return decoded["header"], decoded["payload"]


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


async def test_signed_assertion_by_default(client: Aws) -> None:
    header, claims = await signed_assertion(client, with_key())

    assert header == {"typ": "JWT", "alg": "RS256"}
    assert (claims["iss"], claims["sub"], claims["aud"], claims["exp"] - claims["iat"]) == ("acme", "acme", URL, 60)
    assert claims.keys() == {"iss", "sub", "aud", "jti", "iat", "exp"}


async def test_audience_claims_and_headers_of_the_assertion(client: Aws) -> None:
    content: dict[str, Any] = {
        "audience": "https://issuer.example/",
        "claims": {"tenant": "acme"},
        "headers": {"typ": "client-authentication+jwt", "jku": "https://acme.example/jwks"},
    }
    header, claims = await signed_assertion(client, with_key(keyId="one", clientAssertion=content))

    assert header == content["headers"] | {"alg": "RS256", "kid": "one"}
    assert (claims["aud"], claims["tenant"]) == ("https://issuer.example/", "acme")


async def test_claims_that_are_numbers(client: Aws) -> None:
    """LINE requires token_exp, HelseID requires nbf."""
    content = {"integerClaims": {"token_exp": 2592000}, "timeClaims": ["nbf"]}
    _, claims = await signed_assertion(client, with_key(clientAssertion=content))

    assert (claims["token_exp"], claims["nbf"]) == (2592000, claims["iat"])
    assert claims.keys() == {"iss", "sub", "aud", "jti", "iat", "exp", "nbf", "token_exp"}


@cases(
    "spec, key, header",
    {
        "key ID of a JWK": ({}, json.dumps(JWK), {"alg": "PS256", "kid": "one"}),
        "key ID of the spec": ({"keyId": "mine"}, json.dumps(JWK), {"alg": "PS256", "kid": "mine"}),
        "key of a JWK set": ({"keyId": "two"}, jwk_set(JWK, EC_JWK), {"alg": "ES256", "kid": "two"}),
        "EC key": ({}, SEC1, {"alg": "ES256"}),
        "EC key for PS256": ({"algorithm": "PS384"}, json.dumps(JWK), {"alg": "PS384", "kid": "one"}),
    },
)
async def test_key_id_and_algorithm_of_the_assertion(
    spec: dict[str, str], key: str, header: dict[str, str], client: Aws
) -> None:
    assert (await signed_assertion(client, with_key(**spec), key=key))[0] == header | {"typ": "JWT"}


@cases(
    "spec, secrets",
    {
        "in the value of the key": ({}, {"key": PEM + CERTIFICATE_PEM}),
        "in the value of the key, escaped": ({}, {"key": json.dumps(CERTIFICATE_PEM + PEM)}),
        "in its own Secret": ({"clientCertificateFrom": CERTIFICATE_FROM}, {"certificate": CERTIFICATE_PEM}),
        "in a JWK": ({}, {"key": json.dumps(JWK | {"x5c": [in_base64(DER)]})}),
        "instead of the one in the value of the key": (
            {"clientCertificateFrom": CERTIFICATE_FROM},
            {"key": PEM + OTHER_CERTIFICATE_PEM, "certificate": CERTIFICATE_PEM},
        ),
    },
)
async def test_headers_are_derived_from_the_certificate(
    spec: dict[str, Any], secrets: dict[str, str], client: Aws
) -> None:
    header, _ = await signed_assertion(client, with_key(clientAssertion=ALL_HEADERS, **spec), **secrets)

    assert header["x5t"] == base64url(hashlib.sha1(DER, usedforsecurity=False).digest())
    assert header["x5t#S256"] == base64url(hashlib.sha256(DER).digest())
    assert header["x5c"] == [in_base64(DER)]


async def test_chain_starts_with_the_certificate_of_the_key(client: Aws) -> None:
    content = {"certificateHeaders": ["x5c"]}
    header, _ = await signed_assertion(
        client, with_key(clientAssertion=content), key=OTHER_CERTIFICATE_PEM + CERTIFICATE_PEM + PEM
    )

    assert header.keys() == {"typ", "alg", "x5c"}
    assert header["x5c"] == [in_base64(DER), in_base64(OTHER_CERTIFICATE.public_bytes(Encoding.DER))]


@cases(
    "spec, secrets, message",
    {
        "no certificate": ({}, {}, "clientKeyFrom (key tls.key of Secret key) contains no certificate for the"),
        "certificate of another key": (
            {},
            {"key": PEM + OTHER_CERTIFICATE_PEM},
            "clientKeyFrom (key tls.key of Secret key) contains no certificate for the private key",
        ),
        "another value than a certificate": (
            {"clientCertificateFrom": CERTIFICATE_FROM},
            {"certificate": "planted"},
            "clientCertificateFrom (key tls.crt of Secret certificate) contains no certificate in PEM",
        ),
        "damaged certificate": (
            {"clientCertificateFrom": CERTIFICATE_FROM},
            {"certificate": CERTIFICATE_PEM.replace("M", "", 1)},
            "clientCertificateFrom (key tls.crt of Secret certificate) contains a certificate that is damaged",
        ),
    },
)
async def test_unusable_certificate_is_refused(
    spec: dict[str, Any], secrets: dict[str, str], message: str, client: Aws
) -> None:
    error = await refusal(client, with_key(clientAssertion=ALL_HEADERS, **spec), {"key": PEM} | secrets)

    assert (error.reason, error.message[: len(message)]) == ("InvalidSpec", message)


@cases(
    "spec, key, message",
    {
        "encrypted key": ({}, private(KEY, encrypted=True), "contains an encrypted private key: store it without a"),
        "EC key for RS256": (
            {"algorithm": "RS256"},
            SEC1,
            "contains an EC key on the curve secp256r1, which algorithm",
        ),
        "something else": ({}, "planted", "contains no private key in PEM or JWK"),
    },
)
async def test_unusable_key_is_named_with_its_place(spec: dict[str, Any], key: str, message: str, client: Aws) -> None:
    error = await refusal(client, with_key(**spec), {"key": key})

    assert error.reason == "InvalidSpec"
    assert error.message.startswith(f"clientKeyFrom (key tls.key of Secret key) {message}")
    assert (error.__cause__, error.__suppress_context__, "planted" in error.message) == (None, True, False)


async def test_assertion_is_read_from_a_secret(client: Aws) -> None:
    token = signed(real_now(), real_now() + HOUR)
    form = await fields(client, with_assertion(secret_at("jwt"), clientId=None), {"jwt": f'"{token}"\n'})

    assert form.pop("client_assertion_type").endswith(":jwt-bearer")
    assert form == {"client_assertion": token}


_JWT_IN_SECRET = "clientAssertionFrom (key client_secret of Secret jwt)"


@cases(
    "spec, secrets, reason, message",
    {
        "expired": (
            with_assertion(secret_at("jwt")),
            {"jwt": signed(real_now() - HOUR, real_now() - timedelta(minutes=1))},
            "SourceExpired",
            f"{_JWT_IN_SECRET} expired at ",
        ),
        "not a JWT": (
            with_assertion(secret_at("jwt")),
            {"jwt": "planted"},
            "InvalidSpec",
            f"{_JWT_IN_SECRET} is not a JWT",
        ),
        "not a token": (
            with_assertion(secret_at("jwt")),
            {"jwt": "a b"},
            "SourceInvalid",
            f"{_JWT_IN_SECRET} is empty",
        ),
        "opaque access token": (
            pipeline("accessToken", *with_assertion()["exchanges"]),
            {},
            "InvalidSpec",
            "clientAssertionFrom (the accessToken of an earlier exchange) is not a JWT",
        ),
        "no ID token": (
            pipeline("idToken", *with_assertion()["exchanges"]),
            {},
            "InvalidSpec",
            "an exchange needs an idToken",
        ),
    },
)
async def test_unusable_assertion_is_refused(
    spec: dict[str, Any], secrets: dict[str, str], reason: str, message: str, client: Aws
) -> None:
    values = PipelineValues(source_token=Token(signed()), access_token=Token("planted"))
    error = await refusal(client, spec, secrets, values)

    assert (error.reason, error.message[: len(message)]) == (reason, message)
    assert "planted" not in error.message


async def test_source_token_is_never_a_client_assertion(client: Aws) -> None:
    spec = pipeline("accessToken", *with_assertion()["exchanges"])
    error = await refusal(client, spec, {}, PipelineValues(source_token=Token(signed())))

    assert error.reason == "InvalidSpec"


async def test_signatures_of_many_requests_do_not_block_the_event_loop(client: Aws) -> None:
    exchange = request(**with_key()).spec.exchanges[-1].exchange
    assert isinstance(exchange, OauthTokenSpec)
    call = Call(context(client, values={"key": PEM}), "billing", "us-east-1", "acme")
    async with counted_iterations() as iterations:
        await asyncio.gather(*(authenticate_client(call, exchange, PipelineValues()) for _ in range(10)))

    assert iterations.number >= 10
