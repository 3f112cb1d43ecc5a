"""The grants of oauthToken that do not consume the source token, and client authentication."""

import base64
from typing import Any

import jwt
import pytest

from keyturn.core.errors import UnavailableError
from keyturn.core.pipeline_values import PipelineValues, Token
from tests.support.emulator.constants import CLIENT_SECRET
from tests.support.exchange_steps import CA_FROM, OAUTH_OPERATION, SECRET_FROM, OauthIssuer
from tests.support.signing_keys import EC, RSA

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TYPE = "urn:ietf:params:oauth:token-type:"
KEY_FROM = {"secretKeyRef": {"name": "key", "key": "tls.key"}}
ACTOR_FROM = {"secretKeyRef": {"name": "actor", "key": "token"}}
EXCHANGE_FIELDS = {"grantType": EXCHANGE, "subjectTokenType": f"{TYPE}jwt"}


def claims(values: PipelineValues) -> dict[str, Any]:
    assert values.access_token
    body: dict[str, Any] = jwt.decode(values.access_token.value, options={"verify_signature": False})
    return body


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_client_credentials_grant(method: str, issuer: OauthIssuer) -> None:
    values = await issuer.call(
        PipelineValues(), grantType="client_credentials", clientAuthentication=method, scope=["a", "b"]
    )

    assert (claims(values)["sub"], claims(values)["scope"]) == ("keyturn", "a b")
    assert values.refresh_token is None
    assert values.access_token
    assert values.access_token.expires_at


@pytest.mark.parametrize("token", ["subject", "access", "id"])
async def test_current_or_id_token_is_exchanged(token: str, issuer: OauthIssuer) -> None:
    values = PipelineValues(
        source_token=issuer.assertion(subject="subject"),
        access_token=issuer.assertion(subject="access") if token != "subject" else None,
        id_token=issuer.assertion(subject="id"),
    )
    field = {"from": "idToken"} if token == "id" else {}

    assert claims(await issuer.call(values, **EXCHANGE_FIELDS, **field))["sub"] == token


async def test_all_token_exchange_parameters_are_sent(issuer: OauthIssuer) -> None:
    issuer.values["actor"] = issuer.assertion(subject="robot").value
    values = await issuer.call(
        PipelineValues(issuer.assertion()),
        **EXCHANGE_FIELDS,
        requestedTokenType=f"{TYPE}jwt",
        actorTokenFrom=ACTOR_FROM,
        actorTokenType=f"{TYPE}jwt",
        audience=["one", "two"],
        resource=["https://three.example/"],
        scope=["openid"],
        extraParameters={"tenant": "a b&c"},
    )

    assert claims(values)["aud"] == ["one", "two", "https://three.example/"]
    assert claims(values)["act"] == {"sub": "robot"}
    assert values.id_token


async def test_refresh_token_replaces_the_single_use_subject_token(issuer: OauthIssuer) -> None:
    fields = EXCHANGE_FIELDS | {"requestedTokenType": f"{TYPE}refresh_token", "scope": ["openid"]}
    first = await issuer.call(PipelineValues(single_use_credential=issuer.assertion().value), **fields)
    second = await issuer.call(PipelineValues(refresh_token=first.refresh_token), **fields)
    third = await issuer.call(PipelineValues(refresh_token=second.refresh_token), **fields)

    assert claims(third)["sub"] == claims(first)["sub"]
    assert len({first.refresh_token, second.refresh_token, third.refresh_token, None}) == 4
    assert issuer.emulator.family(first.refresh_token or "").consumed == [0, 1]


async def test_refresh_token_in_access_token_is_recognised(issuer: OauthIssuer) -> None:
    """RFC 8693 section 2.2.1: the issued token is in access_token, whatever its type."""
    issuer.emulator.fault(OAUTH_OPERATION, without="refresh_token")
    fields = EXCHANGE_FIELDS | {"requestedTokenType": f"{TYPE}refresh_token"}
    values = await issuer.call(PipelineValues(single_use_credential=issuer.assertion().value), **fields)

    assert (values.access_token, values.refresh_token in issuer.emulator.secrets()) == (None, True)


async def test_missing_access_token_is_not_replaced_by_the_source(issuer: OauthIssuer) -> None:
    issuer.emulator.fault(OAUTH_OPERATION, without="access_token")
    error = await issuer.fail(PipelineValues(issuer.assertion()), **EXCHANGE_FIELDS)

    assert isinstance(error, UnavailableError)
    assert (error.reason, error.outcome_unknown) == ("Unavailable", False)


@pytest.mark.parametrize("kind", ["single_use_credential", "refresh_token"])
async def test_lost_response_leaves_the_outcome_unknown(kind: str, issuer: OauthIssuer) -> None:
    issuer.emulator.fault(OAUTH_OPERATION, drop="after")
    fields = EXCHANGE_FIELDS | {"requestedTokenType": f"{TYPE}refresh_token"}
    error = await issuer.fail(PipelineValues(**{kind: issuer.assertion().value}), **fields)  # type: ignore[arg-type]

    assert isinstance(error, UnavailableError)
    assert error.outcome_unknown


async def test_assertion_is_accepted_once(issuer: OauthIssuer) -> None:
    values = PipelineValues(issuer.assertion(subject="alice"))
    first = await issuer.call(values, grantType=BEARER)
    error = await issuer.fail(values, grantType=BEARER)

    assert claims(first)["sub"] == "alice"
    assert (error.reason, "invalid_grant" in error.message) == ("SourceInvalid", True)


@pytest.mark.parametrize(
    ("changes", "reason", "code"),
    [
        pytest.param({"audience": ["refused"]}, "InvalidSpec", "invalid_target", id="a refused audience"),
        pytest.param({"subjectTokenType": "urn:x"}, "InvalidSpec", "invalid_request", id="an unknown type"),
        pytest.param({"clientSecretFrom": None}, "AccessDenied", "invalid_client", id="no secret"),
    ],
)
async def test_refused_token_exchange(changes: dict[str, Any], reason: str, code: str, issuer: OauthIssuer) -> None:
    error = await issuer.fail(PipelineValues(issuer.assertion()), **(EXCHANGE_FIELDS | changes))

    assert (error.reason, code in error.message) == (reason, True)


async def test_missing_id_token_is_invalid_spec(issuer: OauthIssuer) -> None:
    error = await issuer.fail(PipelineValues(issuer.assertion()), **EXCHANGE_FIELDS, **{"from": "idToken"})

    assert (error.reason, issuer.emulator.calls(OAUTH_OPERATION)) == ("InvalidSpec", 0)
    assert "openid" in error.message


@pytest.mark.parametrize("grant", ["client_credentials", BEARER, EXCHANGE])
async def test_lost_response_that_consumes_nothing_is_retryable(grant: str, issuer: OauthIssuer) -> None:
    issuer.emulator.fault(OAUTH_OPERATION, drop="after")
    more = {"subjectTokenType": f"{TYPE}jwt"} if grant == EXCHANGE else {}
    error = await issuer.fail(PipelineValues(issuer.assertion()), grantType=grant, **more)

    assert isinstance(error, UnavailableError)
    assert (error.reason, error.outcome_unknown) == ("Unreachable", False)


@pytest.mark.parametrize(
    ("pair", "changes"),
    [
        pytest.param(RSA, {}, id="RS256 by default"),
        pytest.param(RSA, {"algorithm": "PS384", "keyId": "key 1"}, id="PS384 with a key id"),
        pytest.param(EC, {"algorithm": "ES256", "clientAuthentication": "private_key_jwt"}, id="ES256"),
    ],
)
async def test_client_authenticates_with_its_key(
    pair: tuple[str, str], changes: dict[str, str], issuer: OauthIssuer
) -> None:
    issuer.emulator.oauth_client("with-key", public_key=pair[1])
    issuer.values["key"] = pair[0]
    key_fields = {"clientId": "with-key", "clientSecretFrom": None, "clientKeyFrom": KEY_FROM} | changes
    for _ in range(2):  # each assertion has its own jti
        values = await issuer.call(PipelineValues(), grantType="client_credentials", **key_fields)

    assert claims(values)["sub"] == "with-key"


@pytest.mark.parametrize(
    ("seconds", "reason", "message"),
    [
        pytest.param(1200, "ClockSkew", "; the node's clock is 20m behind the issuer: synchronize it", id="behind"),
        pytest.param(-1200, "ClockSkew", "; the node's clock is 20m ahead of the issuer: synchronize it", id="ahead"),
        pytest.param(0, "AccessDenied", "check clientId", id="a wrong key and the right time"),
    ],
)
async def test_assertion_by_a_wrong_clock_is_clock_skew(
    seconds: int, reason: str, message: str, issuer: OauthIssuer
) -> None:
    issuer.emulator.oauth_client("with-key", public_key=RSA[1] if seconds else EC[1])
    issuer.emulator.settings(clock_offset_seconds=seconds)
    issuer.values["key"] = RSA[0]
    key_fields = {"clientId": "with-key", "clientSecretFrom": None, "clientKeyFrom": KEY_FROM}
    error = await issuer.fail(PipelineValues(), grantType="client_credentials", **key_fields)

    assert (error.reason, message in error.message) == (reason, True)
    assert "invalid_client" in error.message


async def test_public_client_sends_its_id_without_a_secret(issuer: OauthIssuer) -> None:
    issuer.emulator.oauth_client("public")
    public = {"clientId": "public", "clientSecretFrom": None, "clientAuthentication": "none"}
    token = Token(issuer.emulator.oauth_refresh_token("public"))

    assert claims(await issuer.call(PipelineValues(token), **public))["client_id"] == "public"


async def test_ca_bundle_from_a_config_map(issuer: OauthIssuer) -> None:
    from_config_map = {"configMapKeyRef": CA_FROM["secretKeyRef"]}

    assert await issuer.call(PipelineValues(), grantType="client_credentials", caBundleFrom=from_config_map)


async def test_errors_show_no_secrets(issuer: OauthIssuer) -> None:
    issuer.emulator.fault(OAUTH_OPERATION, code="invalid_client", message="planted")
    error = await issuer.fail(PipelineValues(), grantType="client_credentials", clientSecretFrom=SECRET_FROM)

    assert CLIENT_SECRET not in repr(error) + repr(vars(error))
    assert base64.b64encode(CLIENT_SECRET.encode()).decode() not in repr(error)
