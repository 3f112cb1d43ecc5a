"""Only success, or the proof that no place is left, ends the save of a token that was received."""

import asyncio
import dataclasses
import gc
import logging
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from keyturn.core.errors import (
    BeingDeletedError,
    LeaseLostError,
    RefusedError,
    StorageGoneError,
    ThrottledError,
    UnavailableError,
)
from keyturn.core.pipeline_values import PipelineValues
from keyturn.core.state import ReconcileState
from keyturn.exchanges.transmission import Send, Transmission
from tests.support.dependencies import FakeEnvironment, attempt, environment, rotating
from tests.support.virtual_time import in_virtual_time


async def reconcile(env: FakeEnvironment) -> None:
    env.secrets.create_request(rotating())
    await attempt(dataclasses.replace(env.deps, sleep=asyncio.sleep), rotating(), ReconcileState())


def is_saved(env: FakeEnvironment) -> bool:
    return env.stored_token().value == env.aws.issuer.live == "refresh-1"


def fail_until(env: FakeEnvironment, seconds: float, error: BaseException) -> Callable[[str], Awaitable[None]]:
    """Let each save fail until this time of the event loop."""

    async def fail(point: str) -> None:
        await asyncio.sleep(0)
        if point == "before save" and asyncio.get_running_loop().time() < seconds:
            raise error

    env.watch(fail)
    return fail


def unsaved(env: FakeEnvironment) -> tuple[float | None, float | None]:
    """How many saves were late, and how many still are."""
    value = env.metrics.registry.get_sample_value
    return value("keyturn_token_rotations_total", {"result": "unsaved"}), value("keyturn_unsaved_tokens") or 0


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(error, id=type(error).__name__)
        for error in (
            UnavailableError("Unreachable", "no response"),
            RefusedError("WriteDenied", "a policy"),
            ThrottledError("too many requests"),
            LeaseLostError(),
            KeyError("uid"),
            AttributeError("'NoneType' object has no attribute 'get'"),
            TypeError(),
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
            RecursionError(),
            MemoryError(),
            OSError(28, "No space left on device"),
            RuntimeError("can't start new thread"),
            TimeoutError(),
            asyncio.CancelledError(),
        )
    ],
)
@in_virtual_time
async def test_save_is_retried_after_any_exception(error: BaseException) -> None:
    env = environment("seed")
    fail_until(env, 30, error)

    await reconcile(env)

    assert is_saved(env)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(BeingDeletedError("namespace billing was deleted"), id="the namespace is gone"),
        pytest.param(StorageGoneError("WriteDenied", "/state no longer exists"), id="the volume is gone"),
    ],
)
@in_virtual_time
async def test_save_ends_only_if_no_place_is_left(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    env = environment("seed")
    fail_until(env, 1000, error)

    outcome = None
    with suppress(BeingDeletedError):
        outcome = await env.reconcile(rotating())

    assert outcome is None or outcome.failure_reason == "WriteDenied"
    assert env.tokens.calls["save"] == 0
    assert "the new token of Secret billing/license-keyturn is lost" in caplog.text


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("everything", [False, True], ids=["the reconciliation", "every task"])
@in_virtual_time
async def test_cancellations_neither_end_nor_shorten_the_save(number: int, *, everything: bool) -> None:
    env = environment("seed")
    fail_until(env, 60, UnavailableError("Unreachable", "no response"))

    task = asyncio.create_task(reconcile(env))
    for _ in range(number):
        await asyncio.sleep(7)
        tasks = asyncio.all_tasks() - {asyncio.current_task()} if everything else {task}
        for pending in tasks:
            pending.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert asyncio.get_running_loop().time() >= 60

    assert is_saved(env)


@in_virtual_time
async def test_save_that_fails_for_five_minutes_is_counted_once() -> None:
    env, counted = environment("seed"), {}
    fail_until(env, 2000, UnavailableError("Unreachable", "no response"))

    task = asyncio.create_task(reconcile(env))
    for seconds in (299, 301, 1999):
        await asyncio.sleep(seconds - asyncio.get_running_loop().time())
        counted[seconds] = unsaved(env)
    await task

    assert counted == {299: (0, 0), 301: (1, 1), 1999: (1, 1)}
    assert unsaved(env) == (1, 0)
    assert is_saved(env)


@in_virtual_time
async def test_save_that_hangs_for_five_minutes_is_counted() -> None:
    """For example, the write to a network file system."""
    env = environment("seed")

    async def hang(point: str) -> None:
        if point == "before save":
            await asyncio.sleep(301)
            assert unsaved(env) == (1, 1)

    env.watch(hang)
    await reconcile(env)

    assert is_saved(env)


@in_virtual_time
async def test_quick_save_is_not_counted_later() -> None:
    env = environment("seed")

    await reconcile(env)
    await asyncio.sleep(1000)

    assert unsaved(env) == (0, 0)


@in_virtual_time
async def test_each_signal_logs_what_is_being_saved(caplog: pytest.LogCaptureFixture) -> None:
    env = environment("seed")
    fail_until(env, 60, KeyError("planted-token"))

    with caplog.at_level(logging.WARNING):
        env.pending_tokens.log()
        task = asyncio.create_task(reconcile(env))
        await asyncio.sleep(30)
        for _ in range(2):
            env.pending_tokens.log()
        await task
        env.pending_tokens.log()
    logged = [record.message for record in caplog.records if "SIGKILL" in record.message]

    assert len(logged) == 2
    assert "Secret billing/license-keyturn" in logged[0]
    assert "planted" not in caplog.text
    assert "refresh-1" not in caplog.text


@pytest.mark.parametrize(("seconds", "freed"), [(0, set()), (60, {"acme-0001"})], ids=["a quick save", "a late save"])
@in_virtual_time
async def test_save_that_has_failed_occupies_no_worker(seconds: float, freed: set[str]) -> None:
    env, uids, saved = environment("seed"), set[str](), []
    fail_until(env, seconds, RefusedError("WriteDenied", "field is immutable"))
    env.secrets.create_request(rotating())

    async def regain_worker(_: str) -> None:
        saved.append(is_saved(env))

    deps = dataclasses.replace(env.deps, sleep=asyncio.sleep, free_worker=uids.add, regain_worker=regain_worker)
    await attempt(deps, rotating(), ReconcileState())

    assert uids == freed
    # Before the exchanges that follow.
    assert set(saved) == {True}


@in_virtual_time
async def test_save_keeps_no_certificates_in_memory() -> None:
    env, prepared = environment("seed"), list[weakref.ref[Send]]()
    fail_until(env, 60, RefusedError("WriteDenied", "field is immutable"))
    env.secrets.create_request(rotating())

    async def prepare(*arguments: Any, **options: Any) -> Send:
        send = await env.deps.prepare(*arguments, **options)

        async def send_with_certificates(transmission: Transmission) -> PipelineValues:
            return await send(transmission)

        prepared.append(weakref.ref(send_with_certificates))
        return send_with_certificates

    deps = dataclasses.replace(env.deps, sleep=asyncio.sleep, prepare=prepare)
    task = asyncio.create_task(attempt(deps, rotating(), ReconcileState()))
    await asyncio.sleep(30)
    gc.collect()
    assert not task.done()
    assert prepared[0]() is None

    await task
    assert is_saved(env)


@in_virtual_time
async def test_save_continues_after_it_was_left(caplog: pytest.LogCaptureFixture) -> None:
    env = environment("seed")
    fail_until(env, 60, RefusedError("WriteDenied", "field is immutable"))
    task = asyncio.create_task(reconcile(env))
    await asyncio.sleep(5)
    env.pending_tokens.stop_waiting()
    task.cancel()
    await asyncio.wait({task}, timeout=2)
    assert task.cancelled()
    assert len(env.pending_tokens) == 1

    # No other reconciliation uses the token meanwhile.
    env.pending_tokens.wait_again()
    await asyncio.sleep(40)
    await reconcile(env)
    assert env.aws.issuer.requests == 1
    waiting = asyncio.create_task(env.pending_tokens.wait())
    for _ in range(3):
        await asyncio.sleep(1)
        waiting.cancel()
    await waiting

    assert is_saved(env)
    assert "was never retrieved" not in caplog.text
