"""Every field that STS takes arrives there, and what it means is felt."""

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
    """A role that demands an external id, and one that demands nothing."""
    external = trust_policy(TRUSTED, ACTIONS, {"StringEquals": {"sts:ExternalId": "blue/1:x"}})
    emulator.control("POST", "roles", arn=PARTNER, trust_policy=external)
    emulator.control("POST", "roles", arn=SECOND, trust_policy=trust_policy(TRUSTED, ACTIONS, {}))


def ref(name: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": "value"}}


def assume(**more: Any) -> dict[str, Any]:
    return {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN} | more}


async def taken(client: Aws, *steps: dict[str, Any], secrets: Mapping[str, str] = SECRETS) -> PipelineValues:
    """Take the steps one after another, from the keys of a user."""
    wanted = request(source={"credentials": {"secretRef": {"name": "base"}}}, exchanges=list(steps))
    held = PipelineValues(credentials=USER)
    for one in wanted.spec.exchanges:
        shown = one.exchange.single_use_credential
        held = replace(held, proof=secrets[shown.secret_key_ref.name] if shown else None)
        held = await exchange(context(client, values=secrets), wanted, one, held)
    return held


async def refused(client: Aws, *steps: dict[str, Any], secrets: Mapping[str, str] = SECRETS) -> KeyturnError:
    with pytest.raises(KeyturnError) as raised:
        await taken(client, *steps, secrets=secrets)
    return raised.value


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"externalId": "blue/1:x"}, id="in the manifest"),
        pytest.param({"externalIdFrom": ref("partner")}, id="in a Secret"),
    ],
)
async def test_an_external_id_opens_the_role(more: dict[str, Any], client: Aws, emulator: Emulator) -> None:
    held = await taken(client, assume(roleArn=PARTNER, **more))

    assert held.principal == f"arn:aws:sts::{ACCOUNT}:assumed-role/Partner/billing.acme"


@pytest.mark.parametrize("more", [{}, {"externalId": "red"}])
async def test_without_the_external_id_it_stays_closed(more: dict[str, Any], client: Aws, emulator: Emulator) -> None:
    error = await refused(client, assume(roleArn=PARTNER, **more))

    assert (error.reason, "external id" in error.message) == ("AccessDenied", True)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(assume(externalIdFrom=ref("odd")), id="an external id with a space"),
        pytest.param(
            {"getSessionToken": {"serialNumber": "GAHT12345678", "tokenCodeFrom": ref("long")}},
            id="a code of seven digits",
        ),
    ],
)
async def test_a_secret_that_sts_cannot_take_is_not_sent(step: dict[str, Any], client: Aws, emulator: Emulator) -> None:
    error = await refused(client, step)

    assert (error.reason, emulator.recent_calls()) == ("SourceInvalid", [])
    assert not any(value in error.message for value in SECRETS.values())


@pytest.mark.parametrize(
    ("template", "name"),
    [
        pytest.param(None, "billing.acme", id="by default"),
        pytest.param("{name}@{namespace}", "acme@billing", id="a template"),
        pytest.param("mine", "mine", id="a name"),
    ],
)
async def test_session_names(template: str | None, name: str, client: Aws, emulator: Emulator) -> None:
    given = {"roleSessionName": template} if template else {}
    guest = {"name": template} if template else {}

    assert (await taken(client, assume(**given))).principal.endswith(f"/{name}")
    assert (await taken(client, {"getFederationToken": guest})).principal.endswith(f":federated-user/{name}")


async def test_tags_and_source_identity_go_on_through_a_chain(client: Aws, emulator: Emulator) -> None:
    tags = {"tags": [tag("team", "blue"), tag("stage", "test")], "transitiveTagKeys": ["team"]}
    first = assume(sourceIdentity="alice", **tags)
    await taken(client, first, assume(roleArn=SECOND))

    clash = await refused(client, first, assume(roleArn=SECOND, tags=[tag("Team", "red")]))
    another = await refused(client, first, assume(roleArn=SECOND, sourceIdentity="bob"))

    assert (clash.reason, "InvalidParameterValue; does a tag" in clash.message) == ("InvalidSpec", True)
    assert another.reason == "AccessDenied"


async def test_three_roles_in_a_chain(client: Aws, emulator: Emulator) -> None:
    held = await taken(client, assume(), assume(roleArn=SECOND), assume())

    assert held.principal == f"arn:aws:sts::{ACCOUNT}:assumed-role/AccountConsumer/billing.acme"
    assert [one["principal"].rpartition(":")[2].split("/")[1] for one in emulator.recent_calls()] == [
        "keyturn", "AccountConsumer", "Second",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "says"),
    [
        pytest.param({"policy": "{not JSON"}, "MalformedPolicyDocument; is `policy`", id="not JSON"),
        pytest.param({"policy": '{"a":' + " " * 2000 + "1}", "policyArns": [MANAGED] * 2},
                     "PackedPolicyTooLarge; policy, policyArns and tags", id="too large"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("operation", ["assumeRole", "getFederationToken", "assumeRoleWithWebIdentity"])
async def test_policies_arrive(
    operation: str, more: dict[str, Any], says: str, client: Aws, emulator: Emulator
) -> None:
    if operation == "assumeRoleWithWebIdentity":
        role = {"assumeRoleWithWebIdentity": {"roleArn": ROLE_ARN} | more}
        wanted = request(exchanges=[ACCESS_TOKEN, role])
        held = await get_access_token(client, emulator.refresh_token(), wanted)
        with pytest.raises(KeyturnError) as raised:
            await assume_role_with_web_identity(client, held.newest_token.value, wanted)
        error = raised.value
    else:
        error = await refused(client, assume(**more) if operation == "assumeRole" else {operation: more})

    assert (error.reason, says in error.message) == ("InvalidSpec", True)


async def test_policies_that_are_good_are_taken(client: Aws, emulator: Emulator) -> None:
    policies = {"policy": "{}", "policyArns": [MANAGED], "minimumSessionTokenSize": 4000}
    held = await taken(client, assume(**policies))
    guest = await taken(client, {"getFederationToken": policies | {"tags": [tag("a")]}})

    assert all(one.credentials and len(one.credentials.session_token or "") > 4000 for one in (held, guest))


async def test_an_empty_list_is_as_good_as_none(client: Aws) -> None:
    nothing: dict[str, Any] = {"policyArns": [], "tags": []}
    held = await taken(client, assume(transitiveTagKeys=[], **nothing))
    guest = await taken(client, {"getFederationToken": nothing})

    assert (held.credentials and guest.credentials) is not None


@pytest.mark.parametrize(
    "operation", [pytest.param("getSessionToken", id="a session"), pytest.param("assumeRole", id="a role")]
)
async def test_an_mfa_code_is_shown_once(operation: str, client: Aws, emulator: Emulator) -> None:
    condition = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
    emulator.control("POST", "roles", arn=SECOND, trust_policy=trust_policy(TRUSTED, ACTIONS, condition))
    serial, code = emulator.mfa_code()
    mfa = {"serialNumber": serial, "tokenCodeFrom": ref("mfa")}
    role = {"assumeRole": {"roleArn": SECOND}}
    steps = [{"getSessionToken": mfa}, role] if operation == "getSessionToken" else [
        {"assumeRole": {"roleArn": SECOND} | mfa}]  # fmt: skip
    held = await taken(client, *steps, secrets={"mfa": code})
    again = await refused(client, *steps, secrets={"mfa": code})

    assert held.principal.endswith("assumed-role/Second/billing.acme")
    assert (again.reason, "MFA code" in again.message) == ("AccessDenied", True)


@pytest.mark.parametrize("operation", ["GetSessionToken", "AssumeRole"])
async def test_a_lost_answer_to_a_code_is_a_doubt_and_is_not_asked_for_again(
    operation: str, client: Aws, emulator: Emulator
) -> None:
    serial, code = emulator.mfa_code()
    mfa = {"serialNumber": serial, "tokenCodeFrom": ref("mfa")}
    emulator.fault(operation, times=None, drop="after")
    step = assume(**mfa) if operation == "AssumeRole" else {"getSessionToken": mfa}
    error = await refused(client, step, secrets={"mfa": code})

    assert isinstance(error, UnavailableError)
    assert (error.outcome_unknown, emulator.calls(operation)) == (True, 1)


async def test_a_device_that_is_not_the_users(client: Aws, emulator: Emulator) -> None:
    mfa = {"serialNumber": "GAHT12345678", "tokenCodeFrom": ref("mfa")}

    assert (await refused(client, {"getSessionToken": mfa})).reason == "AccessDenied"


async def test_a_provider_id_is_sent(client: Aws, emulator: Emulator) -> None:
    role = {"assumeRoleWithWebIdentity": {"roleArn": ROLE_ARN, "providerId": "www.amazon.com"}}
    wanted = request(exchanges=[ACCESS_TOKEN, role])
    held = await get_access_token(client, emulator.refresh_token(), wanted)
    with pytest.raises(KeyturnError) as raised:
        await assume_role_with_web_identity(client, held.newest_token.value, wanted)

    assert raised.value.reason == "SourceInvalid"
