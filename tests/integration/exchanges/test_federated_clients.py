"""OAuth clients that authenticate with a JWT of another issuer, without a secret (RFC 7521 section 4.2)."""

from typing import Any

import jwt
import pytest

from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.core.settings import SourceSettings
from tests.support.cases import cases
from tests.support.emulator.client import Emulator
from tests.support.exchange_steps import OAUTH_OPERATION, OauthIssuer
from tests.support.manifests.tokens import BEARER, EXCHANGE, TYPE

SUBJECT, AUDIENCE = "system:serviceaccount:billing:app", "https://issuer.example/"
ACCOUNT = {"serviceAccount": {"name": "app", "audiences": [AUDIENCE]}}
FEDERATED = {"clientId": "federated", "clientSecretFrom": None, "clientAssertionFrom": ACCOUNT}
GRANTS: dict[str, dict[str, Any]] = {
    "refresh_token": {"grantType": "refresh_token"},
    "client_credentials": {"grantType": "client_credentials"},
    "token-exchange": {"grantType": EXCHANGE, "subjectTokenType": f"{TYPE}jwt"},
    "jwt-bearer": {"grantType": BEARER},
}


@pytest.fixture
def federated(issuer: OauthIssuer) -> OauthIssuer:
    """The issuer, with a client that authenticates with tokens of a ServiceAccount; each is accepted once."""

    async def make_token(namespace: str, name: str, audiences: tuple[str, ...], seconds: int) -> str:
        assert (namespace, name, audiences, seconds) == ("billing", "app", (AUDIENCE,), 600)
        return issuer.emulator.jwt(issuer.emulator.issuer_url, subject=SUBJECT)

    issuer.emulator.oauth_client("federated", federated_subject=SUBJECT)
    issuer.make_token, issuer.sources = make_token, SourceSettings(audiences=(AUDIENCE,))
    return issuer


def input_token(fields: dict[str, Any], emulator: Emulator) -> PipelineValues:
    is_refresh = fields["grantType"] == "refresh_token"
    token = emulator.oauth_refresh_token("federated") if is_refresh else emulator.jwt(emulator.issuer_url)
    return PipelineValues(Token(token))


@pytest.mark.parametrize("client_id", ["federated", None])
@cases("fields", GRANTS)
async def test_each_grant_and_renewal_uses_a_new_service_account_token(
    fields: dict[str, Any], client_id: str | None, federated: OauthIssuer
) -> None:
    for _ in range(2):
        values = input_token(fields, federated.emulator)
        results = await federated.call(values, **FEDERATED | fields | {"clientId": client_id})

        assert results.access_token
        claims = jwt.decode(results.access_token.value, options={"verify_signature": False})
        assert claims["client_id"] == "federated"


async def test_audience_that_the_settings_do_not_allow(federated: OauthIssuer) -> None:
    federated.sources = SourceSettings()
    error = await federated.fail(PipelineValues(), **FEDERATED | GRANTS["client_credentials"])

    assert (error.reason, federated.emulator.calls(OAUTH_OPERATION)) == ("IdentityNotAllowed", 0)


async def test_token_of_another_service_account_is_refused(federated: OauthIssuer) -> None:
    federated.emulator.oauth_client("federated", federated_subject="system:serviceaccount:billing:other")
    error = await federated.fail(PipelineValues(), **FEDERATED | GRANTS["client_credentials"])

    assert (error.reason, "invalid_client" in error.message) == ("AccessDenied", True)


@pytest.mark.parametrize("choice", ["accessToken", "idToken"])
async def test_client_authenticates_with_a_token_of_an_earlier_exchange(choice: str, federated: OauthIssuer) -> None:
    right = Token(federated.emulator.jwt(federated.emulator.issuer_url, subject=SUBJECT))
    wrong = Token("wrong.wrong.wrong")
    values = PipelineValues(
        source_token=wrong,
        access_token=right if choice == "accessToken" else wrong,
        id_token=right if choice == "idToken" else wrong,
    )
    fields = FEDERATED | GRANTS["client_credentials"] | {"clientAssertionFrom": {"pipeline": choice}}

    assert (await federated.call(values, **fields)).access_token


async def test_refresh_token_is_not_replaced_by_the_token_for_the_client(federated: OauthIssuer) -> None:
    values = PipelineValues(
        source_token=Token(federated.emulator.oauth_refresh_token("federated")),
        access_token=Token(federated.emulator.jwt(federated.emulator.issuer_url, subject=SUBJECT)),
    )
    fields = FEDERATED | GRANTS["refresh_token"] | {"clientAssertionFrom": {"pipeline": "accessToken"}}

    assert (await federated.call(values, **fields)).access_token
