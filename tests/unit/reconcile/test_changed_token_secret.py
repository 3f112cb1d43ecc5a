"""A token is not sent again by a TokenRequest that stores its replacement in another Secret."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keyturn.api.token_request import Request
from keyturn.core.errors import UnavailableError
from keyturn.core.token_family import Intent, TokenFamily
from tests.support.controller import Operator
from tests.support.dependencies import (
    ASSUME_ROLE,
    HOUR,
    MINUTE,
    NOW,
    REFRESH,
    SECOND,
    Attempt,
    FakeEnvironment,
    environment,
    rotating,
)
from tests.support.rotation import no_checkpoint
from tests.support.standalone_run import StandaloneRun


def source(secret: str) -> dict[str, Any]:
    """Return spec.source with this token Secret."""
    ref = {"name": "license", "key": "license_token"}
    return {"token": {"secretKeyRef": ref, "saveTo": {"secretName": secret}}}


def saving_to(secret: str, name: str = "acme") -> Request:
    """Return a request with a rotating source and this token Secret."""
    return rotating(name, source=source(secret))


def renamed(source: str = "renamed", name: str = "acme") -> Request:
    """Return a request whose source Secret has another name."""
    return rotating(name, source={"token": {"secretKeyRef": {"name": source, "key": "license_token"}}})


async def rotated(*, rotates: bool = True) -> FakeEnvironment:
    """An environment in which the source's token was used once, and replaced if the issuer rotates."""
    env = environment("seed")
    env.aws.issuer.rotates = rotates
    assert (await env.reconcile(rotating())).failure is None
    env.now += HOUR
    return env


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
async def test_changed_token_secret_sends_no_consumed_token(*, restarts: bool) -> None:
    env = await rotated()
    if restarts:
        env.restart()
        Operator(outside=env).controller.on_secret(env.secrets.meta("license-keyturn"), alive=True)
    failure = (await env.reconcile(saving_to("live"))).failure

    assert env.aws.issuer.reuses == 0
    assert failure
    assert failure.error.reason == "TargetConflict"
    assert "saveTo.secretName to license-keyturn, or sign in again" in failure.error.message


async def test_token_secret_that_the_watch_does_not_show_is_found() -> None:
    """For example because another program has replaced the label that the watch selects."""
    env = await rotated()
    env.secrets.put("license-keyturn", labels={"app.kubernetes.io/managed-by": "Helm"})
    env.restart()
    failure = (await env.reconcile(saving_to("live"))).failure

    assert (env.aws.issuer.requests, env.aws.issuer.reuses) == (1, 0)
    assert failure
    assert "saveTo.secretName to license-keyturn, or sign in again" in failure.error.message
    assert "live" not in env.secrets.names()


async def test_token_secret_that_the_watch_no_longer_shows_is_found() -> None:
    env = await rotated()
    env.secrets.put("license-keyturn", labels={"app.kubernetes.io/managed-by": "Helm"})
    Operator(outside=env).controller.on_secret(env.secrets.meta("license-keyturn"), alive=False)

    assert (await env.reconcile(saving_to("live"))).failure_reason == "TargetConflict"
    assert (env.aws.issuer.requests, env.aws.issuer.reuses) == (1, 0)


@pytest.mark.parametrize("is_used", [False, True], ids=["empty", "used earlier"])
async def test_hidden_token_secret_is_found_although_the_new_one_exists(*, is_used: bool) -> None:
    env = environment("seed")
    env.secrets.put("live", annotations={"keyturn.dev/adoptable-by": "acme"})
    if is_used:
        await env.reconcile(saving_to("live"))
        env.secrets.put("license", data={"license_token": env.aws.issuer.sign_in()})
    assert (await env.reconcile(rotating(), HOUR)).failure is None
    requests = env.aws.issuer.requests
    env.secrets.put("license-keyturn", labels={"app.kubernetes.io/managed-by": "Helm"})
    env.restart()
    for _ in range(2):
        assert (await env.reconcile(saving_to("live"), HOUR)).failure_reason == "TargetConflict"

    assert (env.aws.issuer.requests, env.aws.issuer.reuses) == (requests, 0)


async def test_token_secrets_are_searched_once() -> None:
    """Each renewal would otherwise need a list if the issuer does not replace the token."""
    env = await rotated(rotates=False)
    assert (await env.reconcile(rotating(), HOUR)).failure is None
    env.restart()
    for _ in range(2):
        assert (await env.reconcile(rotating(), HOUR)).failure is None

    assert env.tokens.calls["find_families"] == 2


async def test_token_secrets_with_too_large_metadata_are_reported() -> None:
    env = await rotated()
    env.secrets.put("license-keyturn", annotations={"large": "x" * 2**20})
    env.restart()
    failure = (await env.reconcile(saving_to("live"))).failure

    assert env.aws.issuer.requests == 1
    assert failure
    assert "too large" in failure.error.message


async def test_another_token_secret_sends_no_consumed_token() -> None:
    env = await rotated()
    assert (await env.reconcile(saving_to("live", "other"))).failure_reason == "TargetConflict"

    assert (await env.reconcile(rotating())).failure is None
    assert (env.aws.issuer.requests, env.aws.issuer.reuses) == (2, 0)


async def test_only_one_request_at_a_time_uses_a_source() -> None:
    env = environment("seed")
    outcomes = await asyncio.gather(*(env.reconcile(saving_to(f"{name}-token", name)) for name in ("a", "b")))
    outcomes += [await env.reconcile(saving_to(f"{name}-token", name), HOUR) for name in ("a", "b")]

    assert {outcome.failure_reason for outcome in outcomes} == {"", "TargetConflict"}
    assert (env.aws.issuer.requests, env.aws.issuer.reuses) == (2, 0)


async def test_token_that_may_have_been_sent_is_not_sent_again() -> None:
    env = await rotated(rotates=False)
    stored = env.stored_token()
    assert stored.family
    intent = Intent(holder="pod-1", consumes=stored.family.live, start=NOW, give_up_seconds=30)
    await env.tokens.update(rotating(), replace(stored, family=stored.family.with_intent(intent)))

    # After 30 s, the other request would make its final attempt.
    for after in (0, 31):
        waiting = await env.reconcile(saving_to("live"), after * SECOND)
        assert (waiting.failure, waiting.reconciled.requeue_at) == (None, env.now + SECOND)
    failure = (await env.reconcile(saving_to("live"), MINUTE)).failure
    assert failure
    assert failure.error.reason == "Unavailable"
    assert "may have been sent with Secret license-keyturn" in failure.error.message
    assert env.aws.issuer.requests == 1


async def test_changed_token_secret_gets_a_token_that_was_not_replaced() -> None:
    env = await rotated(rotates=False)

    assert (await env.reconcile(saving_to("live"))).failure is None
    assert env.stored_token("live").value == "seed"


async def test_changed_token_secret_gets_the_token_of_a_new_sign_in() -> None:
    env = await rotated()
    env.secrets.put("license", data={"license_token": env.aws.issuer.sign_in()})

    assert (await env.reconcile(saving_to("live"))).failure is None
    assert env.aws.issuer.reuses == 0


async def test_renamed_source_sends_no_consumed_token() -> None:
    env = await rotated()
    env.secrets.put("renamed", data={"license_token": "seed"})
    failure = (await env.reconcile(renamed())).failure
    assert (env.aws.issuer.reuses, failure and failure.error.reason) == (0, "TargetConflict")
    assert failure
    assert (
        "Secret license-keyturn contains the newest one: use source license/license_token, or" in failure.error.message
    )


async def test_newest_token_moves_to_another_source() -> None:
    env = await rotated()
    env.secrets.put("renamed", data={"license_token": env.stored_token().value})
    failure = (await env.reconcile(renamed())).failure
    assert failure
    assert (
        "also in Secret license-keyturn, and two token Secrets must not share it: use source" in failure.error.message
    )

    env.secrets.delete("license-keyturn")
    assert (await env.reconcile(renamed(), HOUR)).failure is None
    assert (env.aws.issuer.requests, env.aws.issuer.reuses) == (2, 0)


OTHERS = [renamed(name="other"), saving_to("live", name="other")]


@pytest.mark.parametrize("other", OTHERS, ids=["another source", "another token Secret"])
async def test_newest_token_in_a_source_is_sent_once(other: Request) -> None:
    env = await rotated()
    for name in ("license", "renamed"):
        env.secrets.put(name, data={"license_token": env.stored_token().value})

    assert (await env.reconcile(other)).failure_reason == "TargetConflict"
    assert (await env.reconcile(rotating(), HOUR)).failure is None
    assert env.aws.issuer.reuses == 0


async def test_renamed_source_sends_no_consumed_token_from_an_adopted_secret() -> None:
    env = await rotated()
    env.secrets.put("renamed", data={"license_token": "seed"})
    env.secrets.put("renamed-keyturn", annotations={"keyturn.dev/adoptable-by": "acme"})

    assert (await env.reconcile(renamed())).failure_reason == "TargetConflict"
    assert env.aws.issuer.reuses == 0


async def test_token_of_a_sign_in_is_sent_for_one_source() -> None:
    env = await rotated()
    env.secrets.put("renamed", data={"license_token": env.aws.issuer.sign_in()})
    assert (await env.reconcile(renamed())).failure is None
    token = env.aws.issuer.sign_in()
    for name in ("license", "renamed"):
        env.secrets.put(name, data={"license_token": token})

    assert (await env.reconcile(rotating(), HOUR)).failure is None
    assert (await env.reconcile(renamed(), HOUR)).failure_reason == "TargetConflict"
    assert env.aws.issuer.reuses == 0


@pytest.mark.parametrize(("rotates", "reason"), [(False, ""), (True, "TargetConflict")], ids=["kept", "replaced"])
async def test_token_that_is_in_use_for_another_source_waits(*, rotates: bool, reason: str) -> None:
    """Two sources may contain the same token if the issuer does not replace it."""
    env = environment("seed")
    env.aws.issuer.rotates = rotates
    env.secrets.put("renamed", data={"license_token": "seed"})
    other = renamed(name="other")
    outcomes: list[Attempt] = []

    async def reconcile_other(point: str) -> None:
        if point == "before OauthToken" and not outcomes:
            outcomes.append(await env.reconcile(other))

    env.watch(reconcile_other)
    assert (await env.reconcile(rotating())).failure is None

    [waiting] = outcomes
    assert (waiting.failure, waiting.reconciled.requeue_at) == (None, env.now + SECOND)
    assert (await env.reconcile(other, SECOND)).failure_reason == reason
    assert env.aws.issuer.reuses == 0


async def test_token_in_two_new_sources_is_sent_once() -> None:
    env = environment("seed")
    env.secrets.put("renamed", data={"license_token": "seed"})
    other = renamed(name="other")
    requests = (rotating(), other)
    outcomes = await asyncio.gather(*(env.reconcile(it) for it in requests))
    assert sorted(outcome.issuance is None for outcome in outcomes) == [False, True]
    outcomes = [await env.reconcile(it, HOUR) for it in requests]

    assert sorted(outcome.failure_reason for outcome in outcomes) == ["", "TargetConflict"]
    assert env.aws.issuer.reuses == 0


async def test_other_source_does_not_wait_until_a_token_is_saved() -> None:
    env = environment("seed")
    env.secrets.put("renamed", data={"license_token": "seed"})
    other = renamed(name="other")
    reasons: list[str] = []

    async def reconcile_other(point: str) -> None:
        if point == "before save" and not reasons:
            reasons.append((await env.reconcile(other)).failure_reason)
            reasons.append((await env.reconcile(other, MINUTE)).failure_reason)

    env.watch(reconcile_other)
    assert (await env.reconcile(rotating())).failure is None
    assert reasons == ["", "Unavailable"]


async def test_failure_before_the_exchange_blocks_no_other_source() -> None:
    env = environment("seed")
    env.secrets.put("renamed", data={"license_token": "seed"})

    async def fail(point: str) -> None:
        if point == "prepare OauthToken":
            raise UnavailableError("Unavailable", "the client secret cannot be read")

    env.watch(fail)
    assert (await env.reconcile(rotating())).failure_reason == "Unavailable"
    env.watch(no_checkpoint)
    assert (await env.reconcile(renamed(name="other"))).issuance


async def test_token_secrets_of_the_same_source_are_checked_first() -> None:
    """There may be more token Secrets of other sources in the namespace than are read."""
    env = environment("seed")
    for number in range(120):
        family = TokenFamily(source_id=f"other-{number}/license_token", initial_tokens=("1",), live="1")
        env.token_locks.observe_family("billing", f"other-{number}-keyturn", family)
    assert (await env.reconcile(rotating())).failure is None

    assert (await env.reconcile(saving_to("live"), HOUR)).failure_reason == "TargetConflict"
    assert env.aws.issuer.reuses == 0


@pytest.mark.parametrize("together", [False, True], ids=["one after the other", "together"])
async def test_token_in_two_sources_is_sent_once_after_an_outage(*, together: bool) -> None:
    env = environment("seed")
    env.aws.issuer.unavailable = 2
    env.secrets.put("renamed", data={"license_token": "seed"})
    requests = (rotating(), renamed(name="other"))
    for it in requests:
        assert (await env.reconcile(it)).failure_reason == "Unreachable"
    env.restart()
    env.now += HOUR
    if together:
        await asyncio.gather(*(env.reconcile(it) for it in requests))
    outcomes = [await env.reconcile(it, HOUR) for it in requests]

    assert sorted(outcome.failure_reason for outcome in outcomes) == ["", "TargetConflict"]
    assert env.aws.issuer.reuses == 0


async def test_other_source_with_another_token_is_used() -> None:
    env = await rotated()
    env.secrets.put("renamed", data={"license_token": env.aws.issuer.sign_in()})

    assert (await env.reconcile(renamed())).failure is None


async def test_token_secret_is_no_source() -> None:
    env = await rotated()
    failure = (await env.reconcile(renamed("license-keyturn"))).failure
    assert failure
    assert failure.error.reason == "TargetConflict"
    assert failure.error.message.endswith(": use that source")

    assert (await env.reconcile(rotating(), HOUR)).failure is None
    assert (env.aws.issuer.requests, env.aws.issuer.reuses) == (2, 0)


async def test_name_of_a_deleted_token_secret_can_be_that_of_a_source() -> None:
    """The watch may not have shown the deletion, or Secrets are not watched."""
    env = await rotated()
    env.secrets.delete("license-keyturn")
    env.secrets.put("license-keyturn", data={"license_token": env.aws.issuer.sign_in()})

    assert (await env.reconcile(renamed("license-keyturn"))).failure is None


async def test_deleted_token_secret_prevents_no_use() -> None:
    """The person who deleted it decides what is sent."""
    env = await rotated()
    meta = env.secrets.meta("license-keyturn")
    env.secrets.delete("license-keyturn")
    Operator(outside=env).controller.on_secret(meta, alive=False)
    env.aws.issuer.sign_in()
    env.aws.issuer.live = "seed"

    assert (await env.reconcile(saving_to("live"))).failure is None


async def test_changed_state_file_sends_no_consumed_token(tmp_path: Path) -> None:
    run = StandaloneRun(tmp_path)
    for secret in ("first", "second"):
        run.write_manifest(exchanges=[REFRESH, ASSUME_ROLE], source=source(secret))
        await run.run(MINUTE)

    assert (run.outside.aws.issuer.requests, run.outside.aws.issuer.reuses) == (1, 0)
    assert run.condition("Stalled") == ("True", "TargetConflict")
