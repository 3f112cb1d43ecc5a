"""A change of a Secret or ConfigMap that an exchange reads ends the wait after a refusal."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from keyturn.api.token_request import Request
from keyturn.controller.request_index import restored_failure
from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, UnavailableError
from keyturn.core.state import ReconcileState
from tests.support.cases import cases
from tests.support.dependencies import (
    ASSUME_ROLE,
    HOUR,
    MINUTE,
    REFRESH,
    SECOND,
    FakeEnvironment,
    environment,
    request,
    single_use,
    with_code,
)

CLIENT_SECRET = "/api/v1/namespaces/billing/secrets/client"
CA_BUNDLE = "/api/v1/namespaces/billing/configmaps/ca"
DUE = 45 * MINUTE
GIVE_UP_TIME = 8 * MINUTE
REFUSED = RefusedError("SourceInvalid", "id.example: HTTP 200 with a non-standard error", may_concern_token=True)
Change = Callable[[FakeEnvironment], object]


def token_request(**changes: Any) -> Request:
    """A request whose source token is rotated, for a client with a secret and a private CA."""
    step: dict[str, Any] = copy.deepcopy(REFRESH)
    step["oauthToken"] |= {
        "clientSecretFrom": {"secretKeyRef": {"name": "client", "key": "secret"}},
        "caBundleFrom": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}},
        **changes,
    }
    return request(exchanges=[step, ASSUME_ROLE])


async def issued() -> FakeEnvironment:
    """An environment after the first issuance."""
    env = environment("seed")
    env.secrets.put("client", data={"secret": "old"})
    put_ca(env, "old")
    assert (await env.reconcile(token_request())).failure is None
    return env


async def refused(error: KeyturnError = REFUSED) -> FakeEnvironment:
    """An environment after the next renewal was refused, again and again if the wait grows with each attempt."""
    env = await issued()
    env.aws.issuer.refusal, env.rand = error, 0.999
    for after in (DUE, *[5 * MINUTE] * 5) if error.reason == "Unreachable" else (DUE,):
        assert (await env.reconcile(token_request(), after)).tried
    env.aws.issuer.refusal = None
    return env


def put_ca(env: FakeEnvironment, bundle: str) -> None:
    env.secrets.server.put(CA_BUNDLE, data={"ca.crt": bundle})


def reads(env: FakeEnvironment) -> list[str]:
    return [line for line in env.secrets.server.requests if line in (f"GET {CLIENT_SECRET}", f"GET {CA_BUNDLE}")]


CHANGES: dict[str, Change] = {
    "client secret": lambda env: env.secrets.put("client", data={"secret": "new"}),
    "client secret deleted": lambda env: env.secrets.delete("client"),
    "CA bundle in a ConfigMap": lambda env: put_ca(env, "new"),
}


@cases("change", CHANGES)
@cases(
    "error",
    {
        "own code": REFUSED,
        "client refused": RefusedError("AccessDenied", "invalid_client"),
        "spec refused": RefusedError("InvalidSpec", "invalid_scope"),
        "not reached, perhaps because of the CA": UnavailableError("Unreachable", "no response"),
    },
)
async def test_change_of_a_value_ends_the_wait(error: KeyturnError, change: Change) -> None:
    env = await refused(error)
    change(env)
    # At most once in the minimum interval: changes in a loop must not cause attempts in a loop.
    early, late = await env.reconcile(token_request(), SECOND), await env.reconcile(token_request(), 9 * SECOND)

    assert (early.tried, late.tried) == (False, True)


@pytest.mark.parametrize("reason", ["SourceInvalid", "AccessDenied", "InvalidSpec"])
async def test_refusal_is_rechecked_within_a_minute_without_an_attempt(reason: str) -> None:
    env = await refused(RefusedError(reason, "refused"))
    requests = env.aws.issuer.requests
    for _ in range(3):  # the next attempt is at a quarter of the remaining 15 minutes
        outcome = await env.reconcile(token_request(), MINUTE)

        assert outcome.tried is False
        assert outcome.reconciled.requeue_at
        assert outcome.reconciled.requeue_at - env.now <= MINUTE
    assert env.aws.issuer.requests == requests


async def test_change_during_the_refused_call_is_noticed() -> None:
    env = await issued()
    env.aws.issuer.refusal = REFUSED

    async def change(point: str) -> None:
        if point == "before OauthToken":
            env.secrets.put("client", data={"secret": "new"})

    env.checkpoint = change
    await env.reconcile(token_request(), DUE)
    env.aws.issuer.refusal = None

    assert (await env.reconcile(token_request(), MINUTE)).failure is None


async def test_routine_renewal_reads_each_value_once() -> None:
    env = await issued()
    env.secrets.server.requests.clear()
    await env.reconcile(token_request(), MINUTE)
    assert reads(env) == []
    await env.reconcile(token_request(), DUE)

    assert sorted(reads(env)) == sorted([f"GET {CLIENT_SECRET}", f"GET {CA_BUNDLE}"])


async def test_change_of_the_signing_keys_ends_the_wait() -> None:
    """They are in the source, but not part of the token family."""
    env = with_code()
    env.aws.issuer.refusal = RefusedError("AccessDenied", "AccessDeniedException")
    await env.reconcile(single_use())
    env.aws.issuer.refusal = None
    assert (await env.reconcile(single_use(), MINUTE)).tried is False
    env.secrets.put("base", data={"AWS_SECRET_ACCESS_KEY": "new"})

    assert (await env.reconcile(single_use(), MINUTE)).failure is None


async def test_missing_value_is_noticed_when_it_appears() -> None:
    env = await issued()
    env.secrets.delete("client")
    assert (await env.reconcile(token_request(), DUE)).failure_reason == "SourceNotFound"
    env.secrets.put("client", data={"secret": "new"})

    assert (await env.reconcile(token_request(), MINUTE)).failure is None


async def test_values_count_as_unchanged_after_a_restart() -> None:
    env = await refused()
    failure = restored_failure(env.statuses["acme-0001"])
    env.states["acme-0001"] = ReconcileState(failure=failure)
    requests = env.aws.issuer.requests
    await env.reconcile(token_request(), MINUTE)
    assert env.aws.issuer.requests == requests
    put_ca(env, "new")

    assert (await env.reconcile(token_request(), MINUTE)).failure is None


async def test_values_that_cannot_be_read_now_change_nothing() -> None:
    env = await refused()
    before = env.states["acme-0001"].failure
    env.secrets.server.responses[f"GET {CLIENT_SECRET}"] = UnavailableError("Unavailable", "HTTP 503")
    outcome = await env.reconcile(token_request(), MINUTE)

    assert (outcome.failure, outcome.tried) == (before, False)


async def test_throttled_request_does_not_read_values() -> None:
    env = await refused(ThrottledError("HTTP 429", retry_after=HOUR))
    env.secrets.server.requests.clear()
    await env.reconcile(token_request(), MINUTE)

    assert reads(env) == []


@cases(
    "changes, change",
    {name: ({}, change) for name, change in CHANGES.items()}
    | {
        "spec": ({"scope": ["openid"]}, lambda _: None),
        "client": ({"clientId": "other"}, lambda _: None),
        "issuer": ({"tokenUrl": "https://other.example/token"}, lambda _: None),
        "old token": ({}, lambda env: env.secrets.put("license", data={"license_token": "seed", "note": "x"})),
    },
)
async def test_only_a_new_token_is_sent_after_an_unknown_outcome(changes: dict[str, Any], change: Change) -> None:
    env = await issued()
    env.aws.issuer.lost = 1
    for after in (DUE, GIVE_UP_TIME, GIVE_UP_TIME):
        outcome = await env.reconcile(token_request(), after)
    assert (outcome.failure_reason, env.aws.issuer.requests) == ("RefreshOutcomeUnknown", 3)
    change(env)
    outcomes = [await env.reconcile(token_request(**changes), after) for after in (SECOND, MINUTE, HOUR)]
    assert {outcome.failure_reason for outcome in outcomes} <= {"RefreshOutcomeUnknown", "SourceNotFound"}
    assert env.aws.issuer.requests == 3

    env.secrets.put("client", data={"secret": "new"})
    env.secrets.put("license", data={"license_token": env.aws.issuer.sign_in()})
    assert (await env.reconcile(token_request(**changes), MINUTE)).failure is None
    assert env.aws.issuer.requests == 4
