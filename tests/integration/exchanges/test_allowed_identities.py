from typing import Any

import pytest

from keyturn.core.errors import KeyturnError
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.core.settings import AmbientRule, SourceSettings
from keyturn.exchanges.aws import Aws
from tests.support.dependencies import MINUTE, NOW, request, signed
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT_ROLE_ARN, POOL_ID
from tests.support.exchange_steps import AMBIENT_SETTINGS, AMBIENT_SOURCE, context, exchange, fail_pipeline


class FakeServiceAccounts:
    """Creates service account tokens; `received` lists the requests."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str, tuple[str, ...], int]] = []

    async def make_token(self, namespace: str, name: str, audiences: tuple[str, ...], seconds: int) -> str:
        self.received.append((namespace, name, audiences, seconds))
        return signed(NOW, NOW + MINUTE, number=len(self.received))


def account_source(**more: Any) -> dict[str, Any]:
    return {"token": {"serviceAccount": {"name": "app"} | more}}


@pytest.mark.parametrize(
    ("more", "received"),
    [
        pytest.param({}, ("billing", "app", ("sts.amazonaws.com",), 3600), id="by default"),
        pytest.param(
            {"audiences": ["vault", "sts.amazonaws.com"], "expirationSeconds": 600},
            ("billing", "app", ("vault", "sts.amazonaws.com"), 600),
            id="with all fields",
        ),
    ],
)
async def test_service_account_token_is_created_once_per_renewal(
    more: dict[str, Any], received: tuple[Any, ...], client: Aws, emulator: Emulator
) -> None:
    accounts, settings = FakeServiceAccounts(), SourceSettings(audiences=("sts.amazonaws.com", "vault"))
    exchange_context = context(client, sources=settings, make_token=accounts.make_token)
    # Both exchanges read the token. Cognito refuses it, which shows that it was sent.
    pool = {"cognitoGetOpenIdToken": {"identityPoolId": POOL_ID, "logins": {"kubernetes": "accessToken"}}}
    for _ in range(2):
        await fail_pipeline(exchange_context, source=account_source(**more), exchanges=[pool, pool])

    assert accounts.received == [received] * 2
    assert [call["operation"] for call in emulator.recent_calls()] == ["GetId"] * 2


async def test_existing_source_token_is_not_created_again(client: Aws, emulator: Emulator) -> None:
    accounts = FakeServiceAccounts()
    exchange_context = context(client, make_token=accounts.make_token)
    token_request = request(source=account_source())
    with pytest.raises(KeyturnError):
        await exchange(
            exchange_context, token_request, token_request.spec.exchanges[0], PipelineValues(Token("existing"))
        )

    assert accounts.received == []


async def test_audience_outside_the_settings_is_not_allowed(client: Aws, emulator: Emulator) -> None:
    accounts = FakeServiceAccounts()
    exchange_context = context(client, make_token=accounts.make_token)
    error = await fail_pipeline(
        exchange_context, source=account_source(audiences=["sts.amazonaws.com", "https://kubernetes"])
    )

    assert (error.reason, accounts.received, emulator.recent_calls()) == ("IdentityNotAllowed", [], [])
    assert error.message.endswith("(sources.audiences) do not allow https://kubernetes")


@pytest.mark.parametrize(
    ("sources", "namespace", "role"),
    [
        pytest.param(SourceSettings(), "billing", ACCOUNT_ROLE_ARN, id="no rules (default)"),
        pytest.param(AMBIENT_SETTINGS, "orders", ACCOUNT_ROLE_ARN, id="another namespace"),
        pytest.param(AMBIENT_SETTINGS, "billing", f"{ACCOUNT_ROLE_ARN}s", id="another role"),
        pytest.param(
            SourceSettings(
                ambient=(
                    AmbientRule(namespaces=("orders",), roles=(ACCOUNT_ROLE_ARN,)),
                    AmbientRule(namespaces=("billing",), roles=("arn:aws:iam::111122223333:role/x",)),
                )
            ),
            "billing",
            ACCOUNT_ROLE_ARN,
            id="the role of one rule and the namespace of another",
        ),
    ],
)
async def test_ambient_identity_requires_a_matching_rule(
    sources: SourceSettings, namespace: str, role: str, client: Aws, emulator: Emulator
) -> None:
    spec = {"source": AMBIENT_SOURCE, "exchanges": [{"assumeRole": {"roleArn": role}}]}
    error = await fail_pipeline(context(client, sources=sources), namespace, **spec)

    assert (error.reason, emulator.recent_calls()) == ("IdentityNotAllowed", [])
