"""Every parameter of STS is sent and has its effect."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from keyturn.core.errors import KeyturnError, UnavailableError
from keyturn.core.pipeline_values import Credentials, PipelineValues
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.registry import exchange
from tests.support.dependencies import ACCESS_TOKEN, request
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import (
    ACCOUNT,
    ACCOUNT_ROLE_ARN,
    ROLE_ARN,
    USER_KEY_ID,
    USER_SECRET_KEY,
    trust_policy,
)
from tests.support.exchange_steps import assume_role as assume_role_with_web_identity
from tests.support.exchange_steps import context, get_access_token
from tests.support.manifests.sessions import MANAGED, tag

USER = Credentials(USER_KEY_ID, USER_SECRET_KEY)
PARTNER = f"arn:aws:iam::{ACCOUNT}:role/Partner"
SECOND = f"arn:aws:iam::{ACCOUNT}:role/Second"
TRUSTED = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
ACTIONS = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
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


async def run_steps(client: Aws, *steps: dict[str, Any], secrets: Mapping[str, str] = SECRETS) -> PipelineValues:
    """Run the exchanges one after another, starting from the access keys of an IAM user."""
    token_request = request(source={"credentials": {"secretRef": {"name": "base"}}}, exchanges=list(steps))
    values = PipelineValues(credentials=USER)
    for one in token_request.spec.exchanges:
        single_use = one.exchange.single_use_credential
        values = replace(values, single_use_credential=secrets[single_use.secret_key_ref.name] if single_use else None)
        values = await exchange(context(client, values=secrets), token_request, one, values)
    return values


async def fail_steps(client: Aws, *steps: dict[str, Any], secrets: Mapping[str, str] = SECRETS) -> KeyturnError:
    with pytest.raises(KeyturnError) as raised:
        await run_steps(client, *steps, secrets=secrets)
    return raised.value


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"externalId": "blue/1:x"}, id="in the manifest"),
        pytest.param({"externalIdFrom": ref("partner")}, id="in a Secret"),
    ],
)
async def test_external_id_is_sent(more: dict[str, Any], client: Aws, emulator: Emulator) -> None:
    values = await run_steps(client, assume(roleArn=PARTNER, **more))

    assert values.principal == f"arn:aws:sts::{ACCOUNT}:assumed-role/Partner/billing.acme"


@pytest.mark.parametrize("more", [{}, {"externalId": "red"}])
async def test_missing_external_id_is_denied(more: dict[str, Any], client: Aws, emulator: Emulator) -> None:
    error = await fail_steps(client, assume(roleArn=PARTNER, **more))

    assert (error.reason, "external ID" in error.message) == ("AccessDenied", True)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(assume(externalIdFrom=ref("odd")), id="an external ID with a space"),
        pytest.param(
            {"getSessionToken": {"serialNumber": "GAHT12345678", "tokenCodeFrom": ref("long")}},
            id="a code of seven digits",
        ),
    ],
)
async def test_invalid_secret_value_is_not_sent(step: dict[str, Any], client: Aws, emulator: Emulator) -> None:
    error = await fail_steps(client, step)

    assert (error.reason, emulator.recent_calls()) == ("SourceInvalid", [])
    assert not any(value in error.message for value in SECRETS.values())


@pytest.mark.parametrize(
    ("template", "name"),
    [
        pytest.param(None, "billing.acme", id="by default"),
        pytest.param("{name}@{namespace}", "acme@billing", id="a template"),
        pytest.param("custom", "custom", id="a name"),
    ],
)
async def test_session_names(template: str | None, name: str, client: Aws, emulator: Emulator) -> None:
    fields = {"roleSessionName": template} if template else {}
    federated = {"name": template} if template else {}

    assert (await run_steps(client, assume(**fields))).principal.endswith(f"/{name}")
    assert (await run_steps(client, {"getFederationToken": federated})).principal.endswith(f":federated-user/{name}")


async def test_tags_and_source_identity_pass_through_a_chain(client: Aws, emulator: Emulator) -> None:
    tags = {"tags": [tag("team", "blue"), tag("stage", "test")], "transitiveTagKeys": ["team"]}
    first = assume(sourceIdentity="alice", **tags)
    await run_steps(client, first, assume(roleArn=SECOND))

    tag_conflict = await fail_steps(client, first, assume(roleArn=SECOND, tags=[tag("Team", "red")]))
    identity_conflict = await fail_steps(client, first, assume(roleArn=SECOND, sourceIdentity="bob"))

    assert (tag_conflict.reason, "InvalidParameterValue; check the tags" in tag_conflict.message) == (
        "InvalidSpec",
        True,
    )
    assert identity_conflict.reason == "AccessDenied"


async def test_three_roles_in_a_chain(client: Aws, emulator: Emulator) -> None:
    values = await run_steps(client, assume(), assume(roleArn=SECOND), assume())

    assert values.principal == f"arn:aws:sts::{ACCOUNT}:assumed-role/AccountConsumer/billing.acme"
    assert [one["principal"].rpartition(":")[2].split("/")[1] for one in emulator.recent_calls()] == [
        "keyturn", "AccountConsumer", "Second",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "expected_text"),
    [
        pytest.param({"policy": "{not JSON"}, "MalformedPolicyDocument; check that `policy`", id="not JSON"),
        pytest.param({"policy": '{"a":' + " " * 2000 + "1}", "policyArns": [MANAGED] * 2},
                     "PackedPolicyTooLarge; shorten policy, policyArns or tags", id="too large"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("operation", ["assumeRole", "getFederationToken", "assumeRoleWithWebIdentity"])
async def test_invalid_policies_are_reported(
    operation: str, more: dict[str, Any], expected_text: str, client: Aws, emulator: Emulator
) -> None:
    if operation == "assumeRoleWithWebIdentity":
        role = {"assumeRoleWithWebIdentity": {"roleArn": ROLE_ARN} | more}
        token_request = request(exchanges=[ACCESS_TOKEN, role])
        values = await get_access_token(client, emulator.refresh_token(), token_request)
        with pytest.raises(KeyturnError) as raised:
            await assume_role_with_web_identity(client, values.current_token.value, token_request)
        error = raised.value
    else:
        error = await fail_steps(client, assume(**more) if operation == "assumeRole" else {operation: more})

    assert (error.reason, expected_text in error.message) == ("InvalidSpec", True)


async def test_valid_policies_are_accepted(client: Aws, emulator: Emulator) -> None:
    policies = {"policy": "{}", "policyArns": [MANAGED], "minimumSessionTokenSize": 4000}
    values = await run_steps(client, assume(**policies))
    federated = await run_steps(client, {"getFederationToken": policies | {"tags": [tag("a")]}})

    assert all(one.credentials and len(one.credentials.session_token or "") > 4000 for one in (values, federated))


async def test_empty_list_is_not_sent(client: Aws) -> None:
    empty_lists: dict[str, Any] = {"policyArns": [], "tags": []}
    values = await run_steps(client, assume(transitiveTagKeys=[], **empty_lists))
    federated = await run_steps(client, {"getFederationToken": empty_lists})

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
    values = await run_steps(client, *steps, secrets={"mfa": code})
    second = await fail_steps(client, *steps, secrets={"mfa": code})

    assert values.principal.endswith("assumed-role/Second/billing.acme")
    assert (second.reason, "MFA code" in second.message) == ("AccessDenied", True)


@pytest.mark.parametrize("operation", ["GetSessionToken", "AssumeRole"])
async def test_lost_response_to_an_mfa_code_is_not_retried(operation: str, client: Aws, emulator: Emulator) -> None:
    serial, code = emulator.mfa_code()
    mfa = {"serialNumber": serial, "tokenCodeFrom": ref("mfa")}
    emulator.fault(operation, times=None, drop="after")
    step = assume(**mfa) if operation == "AssumeRole" else {"getSessionToken": mfa}
    error = await fail_steps(client, step, secrets={"mfa": code})

    assert isinstance(error, UnavailableError)
    assert (error.outcome_unknown, emulator.calls(operation)) == (True, 1)


async def test_mfa_device_of_another_user_is_denied(client: Aws, emulator: Emulator) -> None:
    mfa = {"serialNumber": "GAHT12345678", "tokenCodeFrom": ref("mfa")}

    assert (await fail_steps(client, {"getSessionToken": mfa})).reason == "AccessDenied"


async def test_provider_id_is_sent(client: Aws, emulator: Emulator) -> None:
    role = {"assumeRoleWithWebIdentity": {"roleArn": ROLE_ARN, "providerId": "www.amazon.com"}}
    token_request = request(exchanges=[ACCESS_TOKEN, role])
    values = await get_access_token(client, emulator.refresh_token(), token_request)
    with pytest.raises(KeyturnError) as raised:
        await assume_role_with_web_identity(client, values.current_token.value, token_request)

    assert raised.value.reason == "SourceInvalid"
