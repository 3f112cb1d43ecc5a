"""An intent exists only while the token may have been sent: whatever fails before that leaves none."""

import asyncio
import dataclasses
import time
from datetime import timedelta

import pytest

from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.token_request import Request
from keyturn.core.errors import (
    BeingDeletedError,
    LeaseLostError,
    RefusedError,
    StorageGoneError,
    ThrottledError,
    UnavailableError,
)
from keyturn.core.pipeline_values import PipelineValues
from keyturn.core.token_family import Intent, token_fingerprint
from keyturn.exchanges.transmission import AbandonedError, Send, Transmission
from keyturn.reconcile import dependencies
from keyturn.reconcile.token_refresh import BEGIN_SECONDS
from tests.support.dependencies import (
    HOUR,
    MINUTE,
    SECOND,
    FakeEnvironment,
    attempt,
    environment,
    rotating,
    single_use,
    with_code,
)
from tests.support.virtual_time import VirtualTime

GIVE_UP_TIME = 8 * MINUTE
DUE = 45 * MINUTE
ERRORS = [
    pytest.param(RefusedError("SourceInvalid", "a key that is no key"), id="refused"),
    pytest.param(UnavailableError("Unreachable", "no response", outcome_unknown=True), id="unavailable"),
    *(
        pytest.param(error, id=type(error).__name__)
        for error in (
            TypeError("cadata should be an ASCII string"),
            ValueError("a bug"),
            UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range"),
            MemoryError(),
            RecursionError(),
            asyncio.CancelledError(),
        )
    ),
]
REQUESTS = [
    pytest.param(rotating(), "license-keyturn", id="refresh token"),
    pytest.param(single_use(), "sign-in-keyturn", id="code"),
]


async def start(token_request: Request) -> FakeEnvironment:
    """An environment in which the next renewal consumes a token."""
    env = with_code()
    env.secrets.put("license", data={"license_token": "seed"})
    await env.reconcile(token_request)
    return env


async def with_refused_final_attempt() -> FakeEnvironment:
    """An environment in which the next reconciliation makes a final attempt, which will consume nothing."""
    env = await start(rotating())
    env.aws.issuer.refusal = UnavailableError("Unavailable", "HTTP 502", outcome_unknown=True)
    await env.reconcile(rotating(), DUE)
    env.tokens.calls.clear()
    env.aws.issuer.refusal = ThrottledError("HTTP 429")
    return env


def intent_of(env: FakeEnvironment, token_secret: str) -> Intent | None:
    family = env.stored_token(token_secret).family
    assert family
    return family.intent


async def reconcile_and_fail(env: FakeEnvironment, token_request: Request, after: timedelta = DUE) -> None:
    """Reconcile a request; the error may be reported as a failure or raised."""
    try:
        outcome = await env.reconcile(token_request, after)
    except (Exception, asyncio.CancelledError):  # noqa: BLE001 - the kind of exception is the test's parameter
        return
    assert outcome.failure_reason


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(("token_request", "token_secret"), REQUESTS)
async def test_failed_preparation_writes_nothing(
    error: BaseException, token_request: Request, token_secret: str
) -> None:
    env = await start(token_request)
    calls, requests, before = dict(env.tokens.calls), env.aws.issuer.requests, env.secrets.meta(token_secret)

    async def fail(point: str) -> None:
        if point.startswith("prepare "):
            raise error

    env.checkpoint = fail
    await reconcile_and_fail(env, token_request)

    assert env.secrets.meta(token_secret) == before
    assert env.tokens.calls == calls | {"read": calls["read"] + 1}
    assert env.aws.issuer.requests == requests
    assert intent_of(env, token_secret) is None


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(("token_request", "token_secret"), REQUESTS)
async def test_failure_before_the_first_byte_withdraws_the_intent(
    error: BaseException, token_request: Request, token_secret: str
) -> None:
    env = await start(token_request)
    requests, before = env.aws.issuer.requests, env.stored_token(token_secret)

    async def fail(point: str) -> None:
        if point in ("before OauthToken", "before IdentityCenterCreateToken"):
            assert intent_of(env, token_secret)
            raise error

    env.checkpoint = fail
    await reconcile_and_fail(env, token_request)
    after = env.stored_token(token_secret)

    assert after == before
    assert env.aws.issuer.requests == requests


@pytest.mark.parametrize("error", ERRORS[1:])
@pytest.mark.parametrize(("token_request", "token_secret"), REQUESTS)
async def test_failure_after_the_first_byte_leaves_the_intent(
    error: BaseException, token_request: Request, token_secret: str
) -> None:
    env = await start(token_request)
    requests = env.aws.issuer.requests

    async def fail(point: str) -> None:
        if point in ("after OauthToken", "after IdentityCenterCreateToken"):
            raise error

    env.checkpoint = fail
    await reconcile_and_fail(env, token_request)

    assert intent_of(env, token_secret)
    # It is not sent again before the intent was observed for its full duration.
    await reconcile_and_fail(env, token_request, SECOND)
    assert env.aws.issuer.requests == requests + 1


@pytest.mark.parametrize("error", ERRORS)
async def test_intent_whose_write_seemed_to_fail_is_withdrawn(error: BaseException) -> None:
    env = await start(rotating())

    async def fail(point: str) -> None:
        if point == "after update":
            env.tokens.checkpoint = env.checkpoint
            raise error

    env.tokens.checkpoint = fail
    await reconcile_and_fail(env, rotating())

    assert intent_of(env, "license-keyturn") is None
    assert env.aws.issuer.requests == 1


async def test_unsent_final_attempt_is_made_later() -> None:
    env = environment("seed")
    await env.reconcile(rotating())
    env.aws.issuer.lost = 1
    await env.reconcile(rotating(), DUE)
    requests = env.aws.issuer.requests

    async def fail(point: str) -> None:
        if point == "before OauthToken":
            raise TypeError

    env.checkpoint = fail
    await reconcile_and_fail(env, rotating(), GIVE_UP_TIME)
    left = intent_of(env, "license-keyturn")
    assert left
    assert left.final_attempt is False
    assert env.aws.issuer.requests == requests


@pytest.mark.parametrize("phase", ["before OauthToken", "after OauthToken", "after update"])
@pytest.mark.parametrize("error", [*ERRORS, pytest.param(LeaseLostError(), id="Lease lost")])
async def test_final_attempt_that_consumed_nothing_is_not_the_last(error: BaseException, phase: str) -> None:
    """Even if the API server fails after the intent was written, at first or for a while."""
    env = await with_refused_final_attempt()
    requests, failures = env.aws.issuer.requests, {"before withdraw": [error] * 3}
    if phase != "after OauthToken":
        failures[phase] = [UnavailableError("Unreachable", "no response")]

    async def fail(point: str) -> None:
        if failures.get(point):
            raise failures[point].pop()

    env.watch(fail)
    await reconcile_and_fail(env, rotating(), 2 * GIVE_UP_TIME)
    left = intent_of(env, "license-keyturn")
    assert left
    assert left.final_attempt is False
    assert env.aws.issuer.requests == requests + (phase == "after OauthToken")

    assert not any(failures.values())

    env.aws.issuer.refusal = None
    for _ in range(2):  # the first one may only observe the intent
        await env.reconcile(rotating(), HOUR)
    assert intent_of(env, "license-keyturn") is None
    assert env.stored_token().value == env.aws.issuer.live != "refresh-1"


async def test_issuer_is_released_while_a_final_attempt_is_withdrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anyone who may write the token Secret can make the withdrawal fail for as long as they want."""
    env, reserved, is_counted = await with_refused_final_attempt(), list[str](), list[bool]()
    monkeypatch.setattr(dependencies, "_MAX_UNSAVED", 1)
    env.tokens.failures["withdraw"] = [RefusedError("WriteDenied", "the Secret is immutable")]

    async def note(point: str) -> None:
        if point in ("before OauthToken", "before withdraw"):
            reserved.append(env.aws.reserved)
            is_counted.append(env.deps.pending_tokens.has_many_unsaved("billing"))

    env.watch(note)
    await reconcile_and_fail(env, rotating(), 2 * GIVE_UP_TIME)

    assert reserved == ["OauthToken", "", ""]
    # Like a token that cannot be saved.
    assert is_counted == [False, False, True]


async def test_withdrawal_does_not_overwrite_the_token_of_another_process() -> None:
    env = await with_refused_final_attempt()

    async def save(point: str) -> None:
        if point == "before withdraw":
            stored = await env.tokens.store.read(rotating())
            family = stored.family.rotated(token_fingerprint("other", "billing", "license-keyturn"))
            await env.tokens.store.update(rotating(), dataclasses.replace(stored, value="other", family=family))

    env.watch(save)
    await reconcile_and_fail(env, rotating(), 2 * GIVE_UP_TIME)

    assert env.stored_token().value == "other"
    assert env.tokens.calls["withdraw"] == 1


@pytest.mark.parametrize("error", [BeingDeletedError(), StorageGoneError("WriteDenied", "removed")], ids=repr)
async def test_withdrawal_ends_if_the_place_is_gone(error: Exception) -> None:
    env = await with_refused_final_attempt()
    env.tokens.failures["withdraw"] = [error] * 2
    await reconcile_and_fail(env, rotating(), 2 * GIVE_UP_TIME)

    assert env.tokens.failures["withdraw"] == [error]


def test_call_that_times_out_unsent_is_not_sent_later() -> None:
    """A thread that calls AWS outlives the timeout, and may have signed its request only then."""
    transmissions: list[Transmission] = []

    async def prepare(_: Request, __: StepSpec, ___: PipelineValues, *, on_read: object = None) -> Send:
        async def send(transmission: Transmission) -> PipelineValues:
            transmissions.append(transmission)
            await asyncio.sleep(HOUR.total_seconds())
            raise AssertionError

        return send

    async def time_out() -> FakeEnvironment:
        env = await start(rotating())
        env.now += DUE
        outcome = await attempt(dataclasses.replace(env.deps, prepare=prepare), rotating(), env.states[rotating().uid])
        assert outcome.failure_reason == "Unreachable"
        return env

    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        env = runner.run(time_out())

    assert intent_of(env, "license-keyturn") is None
    with pytest.raises(AbandonedError):
        transmissions[0].begin()


async def test_slow_writes_before_the_call_do_not_shorten_its_time() -> None:
    """With an admission webhook that takes 9 s, no token would be sent: the dry run and the intent take 18 s."""
    env, seconds_left = await start(rotating()), list[float]()

    async def delay_writes(point: str) -> None:
        if point in ("before dry_run", "before update"):
            await asyncio.sleep(0.5)

    async def prepare(*_: object, **__: object) -> Send:
        async def send(transmission: Transmission) -> PipelineValues:
            seconds_left.append(transmission._deadline - time.monotonic())
            raise UnavailableError("Unreachable", "a closed port")

        return send

    env.watch(delay_writes)
    env.now += DUE
    await attempt(dataclasses.replace(env.deps, prepare=prepare), rotating(), env.states[rotating().uid])

    assert seconds_left == [pytest.approx(BEGIN_SECONDS, abs=0.4)]


async def test_process_that_was_suspended_does_not_send_the_token() -> None:
    env = await start(rotating())
    requests = env.aws.issuer.requests

    async def prepare(*_: object, **__: object) -> Send:
        async def send(transmission: Transmission) -> PipelineValues:
            transmission._deadline = 0
            transmission.begin()
            return env.aws.issuer.refresh("seed", env.now)

        return send

    env.now += DUE
    outcome = await attempt(dataclasses.replace(env.deps, prepare=prepare), rotating(), env.states[rotating().uid])

    assert outcome.failure_reason == "Unreachable"
    assert (intent_of(env, "license-keyturn"), env.aws.issuer.requests) == (None, requests)
