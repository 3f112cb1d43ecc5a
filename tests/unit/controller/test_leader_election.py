import asyncio
import copy
import time
import tracemalloc
from collections.abc import Callable, Mapping
from datetime import timedelta

import pytest

from keyturn.controller import leader_election
from keyturn.controller.api_client import ApiResponse
from keyturn.controller.leader_election import ATTEMPT_SECONDS, DEADLINE_SECONDS, LEASE_SECONDS, Lease, lead
from keyturn.controller.streams import Boundary
from keyturn.core.errors import LeaseLostError, ThrottledError, UnavailableError
from keyturn.metrics import Metrics
from tests.support.api_server import ApiServer
from tests.support.dependencies import NOW
from tests.support.virtual_time import in_virtual_time

LEASE = "/apis/coordination.k8s.io/v1/namespaces/keyturn/leases/keyturn"


class Clock:
    """A monotonic clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def lease(server: ApiServer, identity: str = "one", clock: Callable[[], float] = time.monotonic) -> Lease:
    boundary = Boundary("lease", "keeping the Lease", Metrics())
    return Lease(server, "keyturn", "keyturn", identity, lambda: NOW, boundary, monotonic=clock)


async def test_only_one_of_concurrent_candidates_acquires_a_new_lease() -> None:
    server = ApiServer()
    names = ("one", "two", "three")
    results = await asyncio.gather(*(lease(server, name).acquire_or_renew() for name in names))

    assert sorted(results) == [False, False, True]
    assert server.objects[LEASE]["spec"]["holderIdentity"] == names[results.index(True)]


async def test_renewal_keeps_the_acquire_time() -> None:
    server = ApiServer()
    candidate = lease(server)
    await candidate.acquire_or_renew()
    server.objects[LEASE]["spec"]["acquireTime"] = "then"

    assert await candidate.acquire_or_renew()
    assert server.objects[LEASE]["spec"]["acquireTime"] == "then"


async def test_hold_counts_from_before_the_request() -> None:
    candidate = lease(ApiServer())
    before = asyncio.get_running_loop().time()
    await candidate.acquire_or_renew()

    assert before + LEASE_SECONDS <= candidate.held_until <= asyncio.get_running_loop().time() + LEASE_SECONDS


async def test_lease_is_checked_for_the_remaining_time() -> None:
    candidate = lease(ApiServer())
    await candidate.acquire_or_renew()
    candidate.check(LEASE_SECONDS - 5)

    with pytest.raises(ThrottledError, match="does not last long enough") as refused:
        candidate.check(LEASE_SECONDS + 1)
    # Not a failure of the request, whose next attempt would have to wait for longer each time.
    assert (refused.value.nothing_sent, refused.value.retry_after) == (True, timedelta(seconds=2))


async def test_huge_holder_of_a_lease_is_not_kept() -> None:
    server = ApiServer()
    standby = lease(server, "two")
    await lease(server, "one").acquire_or_renew()
    tracemalloc.start()
    try:
        server.objects[LEASE]["spec"]["holderIdentity"] = "<" * 10**6
        assert not await standby.acquire_or_renew()
        server.objects.clear()
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert standby.holder == "<" * 320
    assert kept_bytes < 100_000


async def test_right_that_was_granted_later_is_not_reported_as_missing() -> None:
    server = ApiServer()
    standby = lease(server, "two")
    server.responses[f"GET {LEASE}"] = ApiResponse(403, {"message": "no right"})
    await standby.acquire_or_renew()
    assert standby.denied == "no right"
    server.responses.clear()
    await lease(server).acquire_or_renew()
    await standby.acquire_or_renew()

    assert (standby.holder, standby.denied) == ("one", "")


async def test_deleted_lease_is_not_acquired_while_its_holder_may_still_write() -> None:
    server, clock = ApiServer(), Clock()
    holder, standby, new = (lease(server, name, clock) for name in ("one", "two", "three"))
    await holder.acquire_or_renew()
    assert not await standby.acquire_or_renew()
    server.delete(LEASE)
    clock.now += LEASE_SECONDS - 1
    assert not await standby.acquire_or_renew()

    assert await holder.acquire_or_renew()
    server.delete(LEASE)
    clock.now += 2
    assert await standby.acquire_or_renew()
    server.delete(LEASE)
    assert await new.acquire_or_renew()


@pytest.mark.parametrize("is_restored", [True, False])
async def test_lease_shows_that_etcd_was_restored(*, is_restored: bool) -> None:
    server, calls = ApiServer(), list[int]()
    candidate = lease(server)
    candidate.on_restored = lambda: calls.append(1)
    await candidate.acquire_or_renew()
    backup = copy.deepcopy(server.objects[LEASE])
    await candidate.acquire_or_renew()
    if is_restored:
        server.objects[LEASE] = backup
    for _ in range(3):
        await candidate.acquire_or_renew()

    assert len(calls) == is_restored


async def test_lease_for_years_is_taken_over() -> None:
    server, clock = ApiServer(), Clock()
    server.put(LEASE, spec={"holderIdentity": "forged", "leaseDurationSeconds": 2**31 - 1})
    candidate = lease(server, clock=clock)
    assert not await candidate.acquire_or_renew()
    clock.now += 601

    assert await candidate.acquire_or_renew()


async def test_only_one_standby_takes_over_an_expired_lease() -> None:
    server = ApiServer()
    server.put(LEASE, spec={"holderIdentity": "crashed", "leaseDurationSeconds": 0.02, "renewTime": "old"})
    standbys = [lease(server, name) for name in ("one", "two")]
    await asyncio.gather(*(standby.acquire_or_renew() for standby in standbys))
    await asyncio.sleep(0.03)
    results = await asyncio.gather(*(standby.acquire_or_renew() for standby in standbys))

    assert sorted(results) == [False, True]


async def test_lease_that_is_renewed_in_time_is_not_taken_over() -> None:
    server = ApiServer()
    candidate = lease(server)
    results = []
    for number in range(4):
        server.put(LEASE, spec={"holderIdentity": "alive", "leaseDurationSeconds": 0.02, "renewTime": str(number)})
        results.append(await candidate.acquire_or_renew())
        await asyncio.sleep(0.03)

    assert not any(results)


async def test_released_lease_is_acquired_immediately() -> None:
    server = ApiServer()
    first = lease(server, "one")
    await first.acquire_or_renew()
    await first.release()

    assert await lease(server, "two").acquire_or_renew()


async def test_lease_is_released_after_a_renewal_without_a_response() -> None:
    server = ApiServer()
    candidate = lease(server, "one")
    await candidate.acquire_or_renew()
    server.put(LEASE, spec={"renewTime": "a moment later"})
    await candidate.release()

    assert "holderIdentity" not in server.objects[LEASE]["spec"]


async def test_lease_of_another_holder_is_not_released() -> None:
    server = ApiServer()
    candidate = lease(server, "one")
    await candidate.acquire_or_renew()
    server.put(LEASE, spec={"holderIdentity": "two"})
    await candidate.release()

    assert server.objects[LEASE]["spec"]["holderIdentity"] == "two"


async def test_release_without_the_lease_sends_nothing() -> None:
    server = ApiServer()
    await lease(server).release()

    assert server.requests == []


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(UnavailableError("Unreachable", "no response"), id="API server unreachable"),
        pytest.param(ApiResponse(403, {"message": "forbidden"}), id="reading is forbidden"),
    ],
)
async def test_lease_that_cannot_be_read_is_not_acquired(response: ApiResponse | Exception) -> None:
    server = ApiServer()
    server.responses[f"GET {LEASE}"] = response

    assert not await lease(server).acquire_or_renew()


async def test_lease_is_not_held_after_a_conflict() -> None:
    server = ApiServer()
    candidate = lease(server)
    await candidate.acquire_or_renew()
    server.responses[f"PATCH {LEASE}"] = ApiResponse(409, {"message": "modified"})

    assert not await candidate.acquire_or_renew()


async def test_standby_is_ready_after_the_first_response() -> None:
    server = ApiServer()
    await lease(server, "one").acquire_or_renew()
    standby = lease(server, "two")
    await standby.acquire_or_renew()

    assert standby.responded.is_set()


async def test_lease_is_released_when_the_work_ends() -> None:
    server, holders = ApiServer(), []

    async def work() -> None:
        holders.append(server.objects[LEASE]["spec"]["holderIdentity"])

    await lead(lease(server), work)

    assert holders == ["one"]
    assert "holderIdentity" not in server.objects[LEASE]["spec"]


async def test_error_of_the_work_is_raised() -> None:
    async def work() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await lead(lease(ApiServer()), work)


class SlowServer(ApiServer):
    """Takes 4.5 s for each response, as an overloaded API server or one with an admission webhook does."""

    async def _respond(self, method: str, path: str, body: object, kind: str, query: Mapping[str, str]) -> ApiResponse:
        await asyncio.sleep(4.5)
        return await super()._respond(method, path, body, kind, query)


@in_virtual_time
async def test_lease_is_kept_although_responses_are_slow() -> None:
    async def work() -> None:
        await asyncio.sleep(3600)

    async with asyncio.timeout(3700):
        await lead(lease(SlowServer(), clock=asyncio.get_running_loop().time), work)


@in_virtual_time
async def test_lease_is_kept_until_cancelled_work_has_ended() -> None:
    server, is_held = ApiServer(), list[bool]()
    own_lease = lease(server, clock=asyncio.get_running_loop().time)

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(3 * LEASE_SECONDS)
            is_held.append(own_lease.is_held())

    leading = asyncio.ensure_future(lead(own_lease, work))
    await asyncio.sleep(1)
    leading.cancel()
    await asyncio.wait({leading})

    assert is_held == [True]
    assert "holderIdentity" not in server.objects[LEASE]["spec"]


class LateLease(Lease):
    """A Lease that is past its renewal deadline as soon as it is acquired."""

    async def acquire_or_renew(self, limit_seconds: float = ATTEMPT_SECONDS) -> bool:
        await super().acquire_or_renew(limit_seconds)
        self.held_until = time.monotonic() + LEASE_SECONDS - DEADLINE_SECONDS
        return True


async def test_process_frozen_beyond_expiry_does_not_renew_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ApiServer()
    frozen = lease(server)

    async def work() -> None:
        frozen.held_until = time.monotonic() + LEASE_SECONDS
        await asyncio.sleep(0)
        frozen.held_until = time.monotonic()
        await asyncio.Event().wait()

    monkeypatch.setattr(leader_election, "RETRY_SECONDS", 0.05)
    with pytest.raises(LeaseLostError):
        async with asyncio.timeout(5):
            await lead(frozen, work)

    assert server.count("PATCH") == 0


async def test_lost_lease_blocks_writes_before_the_work_is_cancelled() -> None:
    late_lease, results = (
        LateLease(ApiServer(), "keyturn", "keyturn", "one", lambda: NOW, Boundary("lease", "it", Metrics())),
        list[bool](),
    )

    async def work() -> None:
        results.append(late_lease.held_until > time.monotonic())
        try:
            await asyncio.Event().wait()
        finally:
            results.append(late_lease.held_until > time.monotonic())

    with pytest.raises(LeaseLostError):
        await lead(late_lease, work)

    assert results == [True, False]


async def test_work_that_does_not_end_after_the_loss_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    boundary, left = Boundary("lease", "it", Metrics()), asyncio.Event()
    late_lease = LateLease(ApiServer(), "keyturn", "keyturn", "one", lambda: NOW, boundary)

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await left.wait()

    monkeypatch.setattr(leader_election, "STOP_SECONDS", 0.05)
    with pytest.raises(LeaseLostError):
        async with asyncio.timeout(5):
            await lead(late_lease, work, left.set)
