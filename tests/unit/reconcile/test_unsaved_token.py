"""A token that was received and cannot be saved is in the status, whatever happens to the status itself."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.status import Status
from keyturn.api.token_request import Request
from keyturn.core.errors import BeingDeletedError, LeaseLostError, RefusedError, UnavailableError
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.core.state import ReconcileState
from keyturn.core.status import Event
from keyturn.reconcile.dependencies import Dependencies
from keyturn.reconcile.reconciler import Reconciled, reconcile
from tests.support.dependencies import HOUR, NOW, REFRESH, FakeEnvironment, environment, rotating, unprepared
from tests.support.dependencies import request as parsed
from tests.support.virtual_time import in_virtual_time

EXPIRY_SECONDS = 3600
DUE = replace(rotating(), renew_requested="now")
REFUSED = RefusedError("WriteDenied", "the API server refused to write Secret license-keyturn: field is immutable")
OUTAGE = UnavailableError("Unreachable", "no response")
UNSAVED = "TokenUnsaved"
MESSAGE = (
    f"the new token cannot be saved in Secret license-keyturn, key license_token: {REFUSED.message}. Remove the cause."
    " Do not stop keyturn-0: it keeps trying, and the token is only in its memory"
)


async def nothing() -> None:
    """Do nothing."""


@dataclass(slots=True)
class Run:
    """Renews a rotating request whose saves fail. Each reported status has the second of the renewal."""

    env: FakeEnvironment = field(default_factory=lambda: environment("seed"))
    previous: Reconciled = field(
        default_factory=lambda: Reconciled(ReconcileState(), Status(), events=(), requeue_at=None)
    )
    reported: list[tuple[int, Status]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    saves: list[float] = field(default_factory=list)
    before_report: Callable[[], Awaitable[None]] = nothing

    @property
    def deps(self) -> Dependencies:
        def now() -> datetime:
            return NOW + timedelta(seconds=asyncio.get_running_loop().time())

        return replace(self.env.deps, sleep=asyncio.sleep, now=now, holder="keyturn-0")

    async def renew(self, seconds: float, error: Exception = REFUSED, *, pause: float = 0) -> Status:
        """Renew: the saves fail for some seconds, and the exchange after the save takes `pause` seconds."""
        loop, request = asyncio.get_running_loop(), DUE if self.previous.status.revision else rotating()
        start = loop.time()
        self.env.secrets.create_request(request)

        async def checkpoint(point: str) -> None:
            if point == "before save":
                self.saves.append(round(loop.time() - start, 3))
                if loop.time() - start < seconds:
                    raise error
            await asyncio.sleep(pause if point == "before AssumeRoleWithWebIdentity" else 0)

        async def report(status: Status, events: tuple[Event, ...]) -> None:
            await self.before_report()
            self.reported.append((int(loop.time() - start), status))
            self.events.extend(event.reason for event in events)

        self.env.watch(checkpoint)
        reconciled = await reconcile(self.deps, request, self.previous.state, self.previous.status, report)
        self.events.extend(event.reason for event in reconciled.events)
        return reconciled.status

    def reasons(self) -> list[tuple[int, str, str]]:
        """The reasons of Ready and Renewed in each reported status, with its second."""
        return [(second, reason(status, "Ready"), reason(status, "Renewed")) for second, status in self.reported]


def reason(status: Status, kind: str) -> str:
    condition = status.condition(kind)
    return condition.reason if condition else ""


async def issued(seconds: float = 1800) -> Run:
    """A request that was issued for an hour, some seconds ago."""
    run = Run()
    run.env.secrets.create_request(rotating())
    run.previous = await reconcile(run.deps, rotating(), ReconcileState(), Status())
    await asyncio.sleep(seconds)
    return run


@in_virtual_time
async def test_refused_save_is_reported_once_and_until_it_succeeds() -> None:
    run = await issued()
    status = await run.renew(600)

    [(second, unsaved)] = run.reported
    assert second <= 2
    assert [(it.type, it.status, it.reason) for it in unsaved.conditions] == [
        ("Ready", "True", "Issued"), ("Renewed", "False", UNSAVED), ("Stalled", "True", UNSAVED),
    ]  # fmt: skip
    assert unsaved.last_error
    assert (unsaved.last_error.message, unsaved.next_attempt_time) == (MESSAGE, None)
    assert (reason(status, "Renewed"), status.condition("Stalled"), status.last_error) == ("Renewed", None, None)
    assert run.events == [UNSAVED, "Recovered"]


@in_virtual_time
async def test_refused_save_of_the_first_token_is_the_reason_of_ready() -> None:
    run = Run()
    status = await run.renew(60)

    assert run.reasons() == [(1, UNSAVED, UNSAVED)]
    assert reason(status, "Ready") == "Issued"


@pytest.mark.parametrize(("seconds", "events"), [(290, []), (320, [UNSAVED, "Recovered"])])
@in_virtual_time
async def test_outage_is_reported_when_the_alert_fires(seconds: float, events: list[str]) -> None:
    run = await issued()
    await run.renew(seconds, OUTAGE)

    assert run.events == events
    assert len(run.reported) == len(events) / 2


@in_virtual_time
async def test_expiry_and_refused_save_share_one_status() -> None:
    run = await issued(EXPIRY_SECONDS - 40)
    await run.renew(600)

    assert run.reasons() == [(1, "Issued", UNSAVED), (40, "Expired", UNSAVED)]
    assert run.events == [UNSAVED, "Expired", "Recovered"]
    since = [status.conditions[1].last_transition_time for _, status in run.reported]
    assert since[0] == since[1]


@in_virtual_time
async def test_status_does_not_claim_that_a_saved_token_is_unsaved() -> None:
    run = await issued()
    await run.renew(60, pause=100)

    assert [row[1:] for row in run.reasons()] == [("Issued", UNSAVED), ("Issued", "Issued")]
    assert run.reported[1][0] <= 90
    assert run.events == [UNSAVED, "Recovered"]


def failing(error: Exception) -> Callable[[], Awaitable[None]]:
    async def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    "before_report",
    [
        pytest.param(failing(OUTAGE), id="the API server does not respond"),
        pytest.param(failing(RefusedError("WriteDenied", "a policy")), id="it refuses the status"),
        pytest.param(failing(LeaseLostError()), id="the Lease is lost"),
        pytest.param(failing(BeingDeletedError()), id="the request is deleted"),
        pytest.param(failing(KeyError("a bug")), id="a bug"),
        pytest.param(lambda: asyncio.sleep(300), id="it takes long"),
    ],
)
@in_virtual_time
async def test_report_neither_ends_nor_delays_the_save(before_report: Callable[[], Awaitable[None]]) -> None:
    undisturbed = await issued()
    await undisturbed.renew(60)
    run = await issued()
    run.before_report = before_report
    await run.renew(60)

    assert run.env.stored_token().value == run.env.aws.issuer.live
    assert run.saves == undisturbed.saves


@in_virtual_time
async def test_request_that_waits_for_the_token_reports_why() -> None:
    run = await issued()
    run.env.secrets.create_request(rotating("other"))
    saving = asyncio.create_task(run.renew(600))
    status, events = Status(), list[str]()
    for _ in range(10):
        await asyncio.sleep(10)
        waiting = await reconcile(run.deps, rotating("other"), ReconcileState(), status)
        status, events = waiting.status, events + [event.reason for event in waiting.events]

    assert (reason(status, "Ready"), reason(status, "Renewed")) == (UNSAVED, UNSAVED)
    assert (events, status.failed_attempts) == ([UNSAVED], 1)
    await saving
    assert run.deps.pending_tokens.unsaved("billing/license-keyturn") is None


@in_virtual_time
async def test_namespace_with_many_unsaved_tokens_exchanges_no_others() -> None:
    """Otherwise 2,000 requests with tokens of 20,000 characters, whose Secrets are immutable, would use 200 MiB."""
    env, sent = environment(), list[str]()

    async def exchange(request: Request, _: StepSpec, values: PipelineValues) -> PipelineValues:
        sent.append(request.name)
        return replace(values, access_token=Token("access", NOW + HOUR), refresh_token=f"new-{request.name}")

    async def fail(point: str) -> None:
        if point == "before save" and asyncio.get_running_loop().time() < 60:
            raise REFUSED

    env.watch(fail)
    deps, tasks = replace(env.deps, sleep=asyncio.sleep, prepare=unprepared(exchange)), []
    for number in range(20):
        source = {"token": {"secretKeyRef": {"name": f"source-{number}", "key": "token"}}}
        env.secrets.put(f"source-{number}", data={"token": f"seed-{number}"})
        request = parsed(str(number), source=source, exchanges=[REFRESH], target={"formats": [{"token": {}}]})
        env.secrets.create_request(request)
        tasks.append(asyncio.create_task(reconcile(deps, request, ReconcileState(), Status())))
        await asyncio.sleep(1)
    waiting = [task.result() for task in tasks if task.done()]

    assert (len(sent), len(waiting)) == (8, 12)
    assert {(result.state.failure, result.requeue_at) for result in waiting} == {(None, NOW + timedelta(seconds=15))}
    assert not deps.pending_tokens.has_many_unsaved("other")
    await asyncio.gather(*tasks)
    assert not deps.pending_tokens.has_many_unsaved("billing")
