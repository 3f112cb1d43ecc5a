"""A Secret whose deletionPolicy becomes Retain loses its owner reference even if it cannot be written."""

from typing import Any

import pytest

from keyturn.controller.api_client import ApiResponse
from keyturn.core.errors import RefusedError
from tests.support.dependencies import HOUR, MINUTE, SECOND, FakeEnvironment, environment, issued, request, rotating
from tests.support.issuance_keys import OTHER_KEYS
from tests.support.secret_store import TARGET

RETAIN = {"deletionPolicy": "Retain"}


def owners(env: FakeEnvironment) -> list[str]:
    return [owner.uid for owner in env.secrets.meta("acme").owner_references]


def edit(env: FakeEnvironment) -> None:
    env.secrets.put("acme", data={"AWS_REGION": "x"})


def lose_key(env: FakeEnvironment) -> None:
    env.secrets.keys = OTHER_KEYS
    env.restart()


@pytest.mark.parametrize("damage", [lambda _: None, edit, lose_key], ids=["intact", "edited", "unverified"])
async def test_suspended_request_releases_its_secret(damage: Any) -> None:
    env = await issued()
    damage(env)
    data = env.secrets.data("acme")
    for _ in range(2):
        await env.reconcile(request(suspend=True, target=RETAIN), after=MINUTE)

    assert (owners(env), env.secrets.data("acme"), env.exchanges) == ([], data, 0)
    assert env.store.calls["disown"] == 1


async def test_owner_references_of_others_are_kept() -> None:
    env = await issued()
    [owner] = env.secrets.server.objects[TARGET]["metadata"]["ownerReferences"]
    env.secrets.put("acme", ownerReferences=[owner, owner | {"uid": "theirs"}])
    await env.reconcile(request(suspend=True, target=RETAIN), after=MINUTE)

    assert owners(env) == ["theirs"]


async def test_request_that_fails_releases_its_secret() -> None:
    env = await issued()
    env.secrets.delete("license")
    assert (await env.reconcile(request(), after=50 * MINUTE)).failure_reason == "SourceNotFound"
    await env.reconcile(request(target=RETAIN), after=SECOND)

    assert owners(env) == []


async def test_request_that_waits_releases_its_secret() -> None:
    env = environment("seed")
    await env.reconcile(rotating())
    assert owners(env) == ["acme-0001"]
    done = await env.reconcile(rotating(target=RETAIN | {"formats": [{"env": {}}]}), after=MINUTE)

    assert (owners(env), env.aws.issuer.requests) == ([], 1)
    assert done.status.condition("Ready").reason == "WaitingForRenewal"  # type: ignore[union-attr]


async def test_secret_with_a_former_name_is_released() -> None:
    env = environment("seed")
    await env.reconcile(rotating())
    moved = rotating(target=RETAIN | {"secretName": "new"})
    for _ in range(2):
        done = await env.reconcile(moved, after=MINUTE)

    assert (owners(env), env.aws.issuer.requests) == ([], 1)
    assert done.status.condition("Ready").reason == "WaitingForRenewal"  # type: ignore[union-attr]
    await env.reconcile(moved, after=HOUR)
    assert env.secrets.server.objects[TARGET]["metadata"]["annotations"] == {}


async def test_refused_release_is_repeated_and_delays_no_renewal() -> None:
    env, refused = await issued(), ApiResponse(403, {"message": "no"})
    env.store.failures["disown"] = [RefusedError("WriteDenied", refused.message) for _ in range(2)]
    suspended = request(suspend=True, target=RETAIN)
    paused = await env.reconcile(suspended, after=MINUTE)
    assert paused.reconciled.requeue_at == env.now + 10 * SECOND
    assert (await env.reconcile(request(target=RETAIN), after=HOUR)).reason == "Due"

    assert owners(env) == []


async def test_edit_of_a_released_secret_stays_reported() -> None:
    env = await issued()
    edit(env)
    await env.reconcile(request(suspend=True), after=MINUTE)
    done = await env.reconcile(request(suspend=True, target=RETAIN), after=MINUTE)

    assert owners(env) == []
    assert done.status.condition("Ready").status == "False"  # type: ignore[union-attr]


async def test_edit_that_adds_an_owner_reference_is_corrected() -> None:
    env, retained = environment(), request(target=RETAIN)
    await env.reconcile(request())
    owner = env.secrets.server.objects[TARGET]["metadata"]["ownerReferences"]
    await env.reconcile(retained, after=MINUTE)
    env.secrets.put("acme", data={"AWS_REGION": "x"}, ownerReferences=owner)

    assert (await env.reconcile(retained, after=MINUTE)).reason == "DriftDetected"
    assert (owners(env), env.secrets.data("acme")["AWS_REGION"]) == ([], "us-east-1")
