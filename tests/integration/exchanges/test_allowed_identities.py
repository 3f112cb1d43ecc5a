from typing import Any

import pytest

from keyturn.core.errors import KeyturnError
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.core.settings import AmbientRule, SourceSettings
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.context import ExchangeContext
from keyturn.exchanges.registry import exchange
from tests.support.dependencies import MINUTE, NOW, request, signed
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT_ROLE_ARN, POOL_ID
from tests.support.exchange_steps import context

FOR_BILLING = SourceSettings(ambient=(AmbientRule(namespaces=("billing",), roles=(ACCOUNT_ROLE_ARN,)),))
ASSUME: dict[str, Any] = {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN}}
AMBIENT: dict[str, Any] = {"credentials": {"ambient": {}}}


class Accounts:
    """Service accounts: `asked` are the tokens that were made."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, tuple[str, ...], int]] = []

    async def make_token(self, namespace: str, name: str, audiences: tuple[str, ...], seconds: int) -> str:
        self.asked.append((namespace, name, audiences, seconds))
        return signed(NOW, NOW + MINUTE, number=len(self.asked))


async def run(
    outside: ExchangeContext, namespace: str = "billing", held: PipelineValues | None = None, **spec: Any
) -> PipelineValues:
    """Take all steps of a request."""
    wanted = request(namespace=namespace, **spec)
    held = held or PipelineValues()
    for step in wanted.spec.exchanges:
        held = await exchange(outside, wanted, step, held)
    return held


async def refused(outside: ExchangeContext, namespace: str = "billing", **spec: Any) -> KeyturnError:
    with pytest.raises(KeyturnError) as raised:
        await run(outside, namespace, **spec)
    return raised.value


def account(**more: Any) -> dict[str, Any]:
    return {"token": {"serviceAccount": {"name": "app"} | more}}


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        pytest.param({}, ("billing", "app", ("sts.amazonaws.com",), 3600), id="by default"),
        pytest.param(
            {"audiences": ["vault", "sts.amazonaws.com"], "expirationSeconds": 600},
            ("billing", "app", ("vault", "sts.amazonaws.com"), 600),
            id="with all that can be said",
        ),
    ],
)
async def test_a_token_is_made_once_in_each_renewal(
    more: dict[str, Any], asked: tuple[Any, ...], client: Aws, emulator: Emulator
) -> None:
    accounts, settings = Accounts(), SourceSettings(audiences=("sts.amazonaws.com", "vault"))
    outside = context(client, sources=settings, make_token=accounts.make_token)
    # Two steps that read the token; that it is refused here shows that it was sent.
    pool = {"cognitoGetOpenIdToken": {"identityPoolId": POOL_ID, "logins": {"kubernetes": "accessToken"}}}
    for _ in range(2):
        await refused(outside, source=account(**more), exchanges=[pool, pool])

    assert accounts.asked == [asked] * 2
    assert [call["operation"] for call in emulator.recent_calls()] == ["GetId"] * 2


async def test_a_token_that_is_there_is_not_made_again(client: Aws, emulator: Emulator) -> None:
    accounts = Accounts()
    outside = context(client, make_token=accounts.make_token)
    wanted = request(source=account())
    with pytest.raises(KeyturnError):
        await exchange(outside, wanted, wanted.spec.exchanges[0], PipelineValues(Token("made already")))

    assert accounts.asked == []


async def test_an_audience_of_no_setting(client: Aws, emulator: Emulator) -> None:
    accounts = Accounts()
    outside = context(client, make_token=accounts.make_token)
    error = await refused(outside, source=account(audiences=["sts.amazonaws.com", "https://kubernetes"]))

    assert (error.reason, accounts.asked, emulator.recent_calls()) == ("IdentityNotAllowed", [], [])
    assert error.message.endswith("(sources.audiences) do not allow https://kubernetes")


@pytest.mark.parametrize(
    ("sources", "namespace", "role"),
    [
        pytest.param(SourceSettings(), "billing", ACCOUNT_ROLE_ARN, id="by default nobody"),
        pytest.param(FOR_BILLING, "orders", ACCOUNT_ROLE_ARN, id="another namespace"),
        pytest.param(FOR_BILLING, "billing", f"{ACCOUNT_ROLE_ARN}s", id="another role"),
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
async def test_our_own_identity_is_not_for_everybody(
    sources: SourceSettings, namespace: str, role: str, client: Aws, emulator: Emulator
) -> None:
    spec = {"source": AMBIENT, "exchanges": [{"assumeRole": {"roleArn": role}}]}
    error = await refused(context(client, sources=sources), namespace, **spec)

    assert (error.reason, emulator.recent_calls()) == ("IdentityNotAllowed", [])


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("billing", "billing", True),
        ("billing", "billing2", False),
        ("team-*", "team-blue", True),
        ("team-*", "my-team-blue", False),
        ("*", "anything", True),
        ("a.b", "axb", False),
        ("role/*/app", "role/x/y/app", True),
    ],
)
def test_a_star_stands_for_any_characters(pattern: str, text: str, *, fits: bool) -> None:
    assert AmbientRule(namespaces=(pattern,), roles=("*",)).allows(text, "role") is fits
    assert AmbientRule(namespaces=("*",), roles=(pattern,)).allows("namespace", text) is fits
