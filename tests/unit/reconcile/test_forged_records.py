"""A record that the operator did not sign causes at most one exchange per drift interval, and no deletion."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from keyturn.core.errors import UnavailableError
from keyturn.core.issuance import ADOPTABLE_BY, ISSUANCE_ANNOTATION, OWNER_UID, Issuance
from keyturn.core.pipeline_values import Superseded
from tests.support.dependencies import (
    ACCESS_TOKEN,
    ASSUME_ROLE,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    FakeEnvironment,
    environment,
    issued,
    request,
    rotating,
    single_use,
    with_code,
)
from tests.support.issuance_keys import OTHER_KEYS

CALLS = 2  # of an exchange of the flagship
LATE = {"expires": NOW + 7000 * 24 * HOUR, "renew": NOW + 6000 * 24 * HOUR}
PULL_SECRET = request(
    target={"formats": [{"dockerConfigJson": {}}]},
    exchanges=[ACCESS_TOKEN, ASSUME_ROLE, {"ecrGetAuthorizationToken": {}}],
)


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the Secret: its record, the signed annotation and the data."""

    record: Issuance
    signed: str
    data: dict[str, str]


Forgery = Callable[[FakeEnvironment, Version], None]


def put_record(env: FakeEnvironment, record: str, **data: str) -> None:
    env.secrets.put("acme", data=data, annotations={ISSUANCE_ANNOTATION: record})


def forge(record: Issuance, **fields: Any) -> str:
    """Return a record with other fields and a correct digest, which needs no key."""
    return Issuance(**{name: getattr(record, name) for name in record.__struct_fields__} | fields).encoded()


def lose_key(env: FakeEnvironment) -> None:
    """Restart the operator with another key, as after a restore without the key."""
    env.secrets.keys = OTHER_KEYS
    env.restart()


def ready(env: FakeEnvironment) -> tuple[str, str]:
    condition = env.statuses["acme-0001"].condition("Ready")
    return (condition.status, condition.reason) if condition else ("", "")


async def test_forged_times_are_replaced_at_once() -> None:
    env = await issued()
    put_record(env, forge(env.issuance(), **LATE), AWS_REGION="garbage")
    done = await env.reconcile(request(), after=MINUTE)

    assert (done.reason, env.issuance().expires) == ("IssuanceUnverified", NOW + MINUTE + HOUR)
    assert env.secrets.data("acme")["AWS_REGION"] == "us-east-1"
    assert ready(env) == ("True", "Renewed")


def forge_later_times(env: FakeEnvironment, first: Version) -> None:
    put_record(env, forge(first.record, **LATE))


def forge_another_request(env: FakeEnvironment, first: Version) -> None:
    put_record(env, forge(first.record, request="other", revision=2**50))


def put_back_first_version(env: FakeEnvironment, first: Version) -> None:
    """Put back the first record, which verifies, and the data that match it."""
    put_record(env, first.signed, **first.data)


def edit_data(env: FakeEnvironment, _: Version) -> None:
    env.secrets.put("acme", data={"AWS_REGION": "x"})


@pytest.mark.parametrize("forgery", [forge_later_times, forge_another_request, put_back_first_version, edit_data])
async def test_forgery_each_second_costs_as_much_as_drift(forgery: Forgery) -> None:
    env = await issued()
    annotations, data = env.secrets.meta("acme").annotations, env.secrets.data("acme")
    first = Version(env.issuance(), annotations[ISSUANCE_ANNOTATION], data)
    await env.reconcile(request(), after=50 * MINUTE)
    env.aws.calls.clear()
    for _ in range(4 * 60):
        forgery(env, first)
        await env.reconcile(request(), after=SECOND)

    # Immediately, and after 1 and 2 minutes.
    assert env.exchanges == 3 * CALLS


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_repairs_that_cannot_be_written_cost_as_much_as_drift(is_restarted: bool) -> None:  # noqa: FBT001
    """For example because the Secret is so large that etcd refuses it, which a dry run does not show."""
    env = await issued()
    await env.reconcile(request(), after=50 * MINUTE)
    record = env.issuance()
    if is_restarted:
        put_record(env, forge(record, **LATE))
        env.restart()
    env.aws.calls.clear()
    for _ in range(4 * 60):
        put_record(env, forge(record, **LATE))
        env.store.failures["write"] = [UnavailableError("Unavailable", "HTTP 500", service="kubernetes")]
        done = await env.reconcile(request(), after=SECOND)
        if done.failure:
            # The service recovers at once.
            state = replace(env.states[request().uid], failure=replace(done.failure, next_attempt_time=env.now))
            env.states[request().uid] = state

    # Immediately, again because the first one was not written, and after 1 and 2 minutes.
    assert env.exchanges == 4 * CALLS


async def test_conflict_between_repairs_costs_as_much_as_drift() -> None:
    env = await issued()
    await env.reconcile(request(), after=50 * MINUTE)
    env.aws.calls.clear()
    failures: list[str] = []
    for _ in range(24):
        env.secrets.delete("acme")
        env.secrets.put("acme", data={"password": "theirs"}, labels={"app.kubernetes.io/managed-by": "keyturn"})
        failures.append((await env.reconcile(request(), after=5 * SECOND)).failure_reason)
        env.secrets.delete("acme")
        await env.reconcile(request(), after=5 * SECOND)

    assert (set(failures), env.exchanges) == ({"TargetConflict"}, 3 * CALLS)


async def test_each_version_put_back_after_a_restart_is_drift() -> None:
    env, versions = await issued(), []
    for _ in range(5):
        versions.append((env.secrets.meta("acme").annotations[ISSUANCE_ANNOTATION], env.secrets.data("acme")))
        await env.reconcile(request(), after=50 * MINUTE)
    env.restart()
    env.aws.calls.clear()
    for record, data in versions:
        put_record(env, record, **data)
        await env.reconcile(request(), after=5 * SECOND)

    # The first is due, as far as a new process knows; the second is repaired immediately.
    assert env.exchanges == 2 * CALLS


async def test_renewal_between_forgeries_does_not_begin_the_intervals_again() -> None:
    """A client that stops until the renewal causes no more exchanges than one that forges the record each second."""
    env = await issued()
    first, repairs, since_due = env.issuance(), 0, 0
    for _ in range(6 * 60 * 6):
        if since_due < 4:
            put_record(env, forge(first, **LATE))
        reason = (await env.reconcile(request(), after=10 * SECOND)).reason
        repairs += reason == "IssuanceUnverified"
        since_due = 0 if reason == "Due" else since_due + (reason == "IssuanceUnverified")

    assert repairs <= 6 + 5 * 2


async def test_clock_that_was_set_back_makes_no_record_an_earlier_one() -> None:
    env = await issued()
    env.set_clock(-2 * HOUR)
    await env.reconcile(replace(request(), renew_requested="1"), after=MINUTE)
    reasons = [(await env.reconcile(request(), after=MINUTE)).reason for _ in range(45)]

    assert [reason for reason in reasons if reason] == ["Due"]


async def test_forgery_before_a_restart_does_not_reset_the_interval() -> None:
    env = await issued()
    first = env.issuance()
    put_record(env, forge(first, **LATE))
    env.restart()
    env.aws.calls.clear()
    for _ in range(50):
        await env.reconcile(request(), after=SECOND)
        put_record(env, forge(first, **LATE))

    assert env.exchanges == CALLS


async def test_status_is_unknown_until_a_renewal_succeeds() -> None:
    env = await issued()
    lose_key(env)
    env.aws.failures = [UnavailableError("Unavailable", "STS returned HTTP 500")]
    done = await env.reconcile(request(), after=MINUTE)

    assert ready(env) == ("Unknown", "IssuanceUnverified")
    assert [event.reason for event in done.reconciled.events] == ["RenewalFailed", "IssuanceUnverified"]
    assert env.secrets.data("acme")["AWS_ACCESS_KEY_ID"] == "ASIA2"
    await env.reconcile(request(), after=MINUTE)
    assert ready(env) == ("True", "Issued")


async def test_lost_key_causes_one_exchange_per_request() -> None:
    env = await issued()
    lose_key(env)
    for _ in range(10):
        await env.reconcile(request(), after=SECOND)

    assert (env.exchanges, env.issuance().issued) == (CALLS, NOW + SECOND)


async def test_suspended_request_keeps_a_secret_with_an_unverified_record() -> None:
    env = await issued()
    lose_key(env)
    for _ in range(3):
        await env.reconcile(request(suspend=True), after=2 * HOUR)

    assert (ready(env), env.exchanges) == (("Unknown", "Suspended"), 0)
    assert "acme" in env.secrets.names()


async def test_consumed_single_use_source_keeps_its_secret() -> None:
    env = with_code()
    env.aws.issuer.refreshes = False
    await env.reconcile(single_use())
    lose_key(env)
    for _ in range(3):
        done = await env.reconcile(single_use(), after=MINUTE)

    assert (ready(env), done.failure_reason) == (("Unknown", "IssuanceUnverified"), "SourceConsumed")
    assert "acme" in env.secrets.names()


async def test_rotating_source_is_renewed_with_the_live_token() -> None:
    env = environment("seed")
    await env.reconcile(rotating())
    lose_key(env)
    done = await env.reconcile(rotating(), after=MINUTE)

    assert (done.reason, done.failure) == ("IssuanceUnverified", None)
    assert (env.aws.issuer.reuses, len(env.aws.issuer.consumed)) == (0, 2)


async def test_forged_token_id_is_never_superseded() -> None:
    env = await issued()
    put_record(env, forge(env.issuance(), token_id="theirs", superseded=(Superseded("theirs", NOW),)))
    env.restart()
    await env.reconcile(request(), after=MINUTE)

    assert env.issuance().superseded == ()


async def test_unverified_record_claims_no_secret_of_a_user() -> None:
    env = await issued()
    record = forge(env.issuance())
    env.secrets.delete("acme")
    put_record(env, record, password="theirs")
    done = await env.reconcile(request(), after=MINUTE)

    assert done.failure_reason == "TargetConflict"
    assert env.secrets.data("acme") == {"password": "theirs"}


@pytest.mark.parametrize("record", ["forged", "destroyed"])
@pytest.mark.parametrize("owned", [True, False], ids=["with our owner reference", "without"])
async def test_secret_without_a_verified_record_is_never_replaced(record: str, *, owned: bool) -> None:
    env = await issued()
    uid = env.secrets.meta("acme").uid
    put_record(env, forge(env.issuance()) if record == "forged" else "{}")
    if not owned:
        env.secrets.put("acme", ownerReferences=[])
    done = await env.reconcile(PULL_SECRET, after=MINUTE)

    assert (done.failure_reason, env.secrets.meta("acme").uid) == ("TargetConflict", uid)


async def test_adopted_secret_with_a_lost_record_stays_adopted() -> None:
    env = environment()
    env.secrets.put("acme", data={"theirs": "x"}, annotations={ADOPTABLE_BY: "acme"})
    await env.reconcile(request())
    env.secrets.put("acme", annotations={ADOPTABLE_BY: None})
    put_record(env, forge(env.issuance(), adopted=False))
    await env.reconcile(request(), after=MINUTE)

    assert env.issuance().adopted
    assert env.secrets.meta("acme").owner_references == ()


async def test_former_target_with_a_copied_record_is_not_deleted() -> None:
    env = await issued()
    copied = env.secrets.meta("acme").annotations[ISSUANCE_ANNOTATION]
    labels = {OWNER_UID: "acme-0001", "app.kubernetes.io/managed-by": "keyturn"}
    env.secrets.put("theirs", data={"password": "x"}, annotations={ISSUANCE_ANNOTATION: copied}, labels=labels)
    await env.reconcile(request(region="eu-west-1"), after=MINUTE)

    assert "theirs" in env.secrets.names()


async def test_former_target_that_was_created_again_is_not_deleted() -> None:
    env = await issued()
    signed = env.secrets.meta("acme").annotations
    before = env.secrets.server.objects["/api/v1/namespaces/billing/secrets/acme"]["metadata"]
    elsewhere = request(target={"secretName": "elsewhere"})
    env.secrets.delete("acme")
    env.secrets.put("acme", data={"password": "theirs"}, annotations=signed, labels=before["labels"])
    await env.reconcile(elsewhere, after=MINUTE)
    await env.reconcile(elsewhere, after=HOUR)

    assert env.secrets.data("acme") == {"password": "theirs"}
