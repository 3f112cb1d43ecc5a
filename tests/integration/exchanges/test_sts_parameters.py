"""Every parameter of STS is sent and has its effect."""

from typing import Any

import pytest

from keyturn.core.errors import KeyturnError, UnavailableError
from keyturn.exchanges.aws import Aws
from tests.support.cases import cases
from tests.support.dependencies import ACCESS_TOKEN, request
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, ACCOUNT_ROLE_ARN, ROLE_ARN, trust_policy
from tests.support.exchange_steps import assume_role as assume_role_with_web_identity
from tests.support.exchange_steps import fail_signed, get_access_token, run_signed
from tests.support.manifests.sessions import MANAGED, tag

PARTNER = f"arn:aws:iam::{ACCOUNT}:role/Partner"
SECOND = f"arn:aws:iam::{ACCOUNT}:role/Second"
TRUSTED = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
ACTIONS = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
NO_JSON = {"policy": "{not JSON"}
TOO_LARGE = {"policy": '{"a":' + " " * 2000 + "1}", "policyArns": [MANAGED] * 2}
DEVICE = "GAHT12345678"
SECRETS = {"partner": "blue/1:x", "mfa": "123456", "odd": "no spaces", "long": "1234567"}


@pytest.fixture(autouse=True)
def roles(emulator: Emulator) -> None:
    """Create a role that requires an external ID, and one that does not."""
    external = trust_policy(TRUSTED, ACTIONS, {"StringEquals": {"sts:ExternalId": "blue/1:x"}})
    emulator.control("POST", "roles", arn=PARTNER, trust_policy=external)
    emulator.control("POST", "roles", arn=SECOND, trust_policy=trust_policy(TRUSTED, ACTIONS, {}))


def ref(name: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": "value"}}


def assume(**more: Any) -> dict[str, Any]:
    return {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN} | more}


@cases(
    "more",
    {
        "in the manifest": {"externalId": "blue/1:x"},
        "in a Secret": {"externalIdFrom": ref("partner")},
    },
)
async def test_external_id_is_sent(more: dict[str, Any], client: Aws, emulator: Emulator) -> None:
    values = await run_signed(client, assume(roleArn=PARTNER, **more), secrets=SECRETS)

    assert values.principal == f"arn:aws:sts::{ACCOUNT}:assumed-role/Partner/billing.acme"


@pytest.mark.parametrize("more", [{}, {"externalId": "red"}])
async def test_missing_external_id_is_denied(more: dict[str, Any], client: Aws, emulator: Emulator) -> None:
    error = await fail_signed(client, assume(roleArn=PARTNER, **more))

    assert (error.reason, "external ID" in error.message) == ("AccessDenied", True)


@cases(
    "step",
    {
        "an external ID with a space": assume(externalIdFrom=ref("odd")),
        "a code of seven digits": {"getSessionToken": {"serialNumber": DEVICE, "tokenCodeFrom": ref("long")}},
    },
)
async def test_invalid_secret_value_is_not_sent(step: dict[str, Any], client: Aws, emulator: Emulator) -> None:
    error = await fail_signed(client, step, secrets=SECRETS)

    assert (error.reason, emulator.recent_calls()) == ("SourceInvalid", [])
    assert not any(value in error.message for value in SECRETS.values())


@cases(
    "template, name",
    {
        "by default": (None, "billing.acme"),
        "a template": ("{name}@{namespace}", "acme@billing"),
        "a name": ("custom", "custom"),
    },
)
async def test_session_names(template: str | None, name: str, client: Aws, emulator: Emulator) -> None:
    fields = {"roleSessionName": template} if template else {}
    federated = {"name": template} if template else {}

    assert (await run_signed(client, assume(**fields))).principal.endswith(f"/{name}")
    assert (await run_signed(client, {"getFederationToken": federated})).principal.endswith(f":federated-user/{name}")


async def test_tags_and_source_identity_pass_through_a_chain(client: Aws, emulator: Emulator) -> None:
    tags = {"tags": [tag("team", "blue"), tag("stage", "test")], "transitiveTagKeys": ["team"]}
    first = assume(sourceIdentity="alice", **tags)
    await run_signed(client, first, assume(roleArn=SECOND))

    tag_conflict = await fail_signed(client, first, assume(roleArn=SECOND, tags=[tag("Team", "red")]))
    identity_conflict = await fail_signed(client, first, assume(roleArn=SECOND, sourceIdentity="bob"))

    assert (tag_conflict.reason, identity_conflict.reason) == ("InvalidSpec", "AccessDenied")
    assert "InvalidParameterValue; check the tags" in tag_conflict.message


async def test_three_roles_in_a_chain(client: Aws, emulator: Emulator) -> None:
    values = await run_signed(client, assume(), assume(roleArn=SECOND), assume())

    assert values.principal == f"arn:aws:sts::{ACCOUNT}:assumed-role/AccountConsumer/billing.acme"
    assert [one["principal"].rpartition(":")[2].split("/")[1] for one in emulator.recent_calls()] == [
        "keyturn", "AccountConsumer", "Second",
    ]  # fmt: skip


@cases("policies", {"not JSON": NO_JSON, "too large": TOO_LARGE})
@pytest.mark.parametrize("operation", ["assumeRole", "getFederationToken"])
async def test_invalid_policy_is_reported(
    operation: str, policies: dict[str, Any], client: Aws, emulator: Emulator
) -> None:
    error = await fail_signed(client, assume(**policies) if operation == "assumeRole" else {operation: policies})

    assert (error.reason, "olicy" in error.message) == ("InvalidSpec", True)


@cases(
    "more, reason",
    {
        "a policy that is not JSON": (NO_JSON, "InvalidSpec"),
        "a policy and ARNs that are too large": (TOO_LARGE, "InvalidSpec"),
        "the provider of OAuth access tokens": ({"providerId": "www.amazon.com"}, "SourceInvalid"),
    },
)
async def test_web_identity_parameter_is_sent(
    more: dict[str, Any], reason: str, client: Aws, emulator: Emulator
) -> None:
    role = {"assumeRoleWithWebIdentity": {"roleArn": ROLE_ARN} | more}
    token_request = request(exchanges=[ACCESS_TOKEN, role])
    values = await get_access_token(client, emulator.refresh_token(), token_request)
    with pytest.raises(KeyturnError) as raised:
        await assume_role_with_web_identity(client, values.current_token.value, token_request)

    assert raised.value.reason == reason


async def test_valid_policies_are_accepted(client: Aws, emulator: Emulator) -> None:
    policies = {"policy": "{}", "policyArns": [MANAGED], "minimumSessionTokenSize": 4000}
    values = await run_signed(client, assume(**policies))
    federated = await run_signed(client, {"getFederationToken": policies | {"tags": [tag("a")]}})

    assert all(one.credentials and len(one.credentials.session_token or "") > 4000 for one in (values, federated))


async def test_empty_list_is_not_sent(client: Aws) -> None:
    empty_lists: dict[str, Any] = {"policyArns": [], "tags": []}
    values = await run_signed(client, assume(transitiveTagKeys=[], **empty_lists))
    federated = await run_signed(client, {"getFederationToken": empty_lists})

    assert (values.credentials and federated.credentials) is not None


@pytest.mark.parametrize(
    "operation", [pytest.param("getSessionToken", id="a session"), pytest.param("assumeRole", id="a role")]
)
async def test_mfa_code_is_accepted_once(operation: str, client: Aws, emulator: Emulator) -> None:
    condition = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
    emulator.control("POST", "roles", arn=SECOND, trust_policy=trust_policy(TRUSTED, ACTIONS, condition))
    serial, code = emulator.mfa_code()
    mfa = {"serialNumber": serial, "tokenCodeFrom": ref("mfa")}
    role = {"assumeRole": {"roleArn": SECOND}}
    steps = [{"getSessionToken": mfa}, role] if operation == "getSessionToken" else [
        {"assumeRole": {"roleArn": SECOND} | mfa}]  # fmt: skip
    values = await run_signed(client, *steps, secrets={"mfa": code})
    second = await fail_signed(client, *steps, secrets={"mfa": code})

    assert values.principal.endswith("assumed-role/Second/billing.acme")
    assert (second.reason, "MFA code" in second.message) == ("AccessDenied", True)


@pytest.mark.parametrize("operation", ["GetSessionToken", "AssumeRole"])
async def test_lost_response_to_an_mfa_code_is_not_retried(operation: str, client: Aws, emulator: Emulator) -> None:
    serial, code = emulator.mfa_code()
    mfa = {"serialNumber": serial, "tokenCodeFrom": ref("mfa")}
    emulator.fault(operation, times=None, drop="after")
    step = assume(**mfa) if operation == "AssumeRole" else {"getSessionToken": mfa}
    error = await fail_signed(client, step, secrets={"mfa": code})

    assert isinstance(error, UnavailableError)
    assert (error.outcome_unknown, emulator.calls(operation)) == (True, 1)
