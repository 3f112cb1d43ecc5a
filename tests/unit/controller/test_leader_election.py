import asyncio
import time

import pytest

from keyturn.controller import leader_election
from keyturn.controller.api_client import ApiResponse
from keyturn.controller.leader_election import DEADLINE_SECONDS, LEASE_SECONDS, Lease, lead
from keyturn.core.errors import LeaseLostError, UnavailableError
from tests.support.api_server import ApiServer
from tests.support.dependencies import NOW

LEASE = "/apis/coordination.k8s.io/v1/namespaces/keyturn/leases/keyturn"


def lease(server: ApiServer, identity: str = "one") -> Lease:
    return Lease(server, "keyturn", "keyturn", identity, lambda: NOW)


async def test_the_first_to_come_holds_it() -> None:
    server = ApiServer()

    assert await lease(server, "one").hold()
    assert not await lease(server, "two").hold()
    assert server.objects[LEASE]["spec"]["holderIdentity"] == "one"


async def test_of_two_who_come_at_once_one_holds_it() -> None:
    server = ApiServer()
    held = await asyncio.gather(*(lease(server, name).hold() for name in ("one", "two", "three")))

    assert sorted(held) == [False, False, True]


async def test_a_hold_is_renewed_and_keeps_its_start() -> None:
    server = ApiServer()
    made = lease(server)
    await made.hold()
    server.objects[LEASE]["spec"]["acquireTime"] = "then"

    assert await made.hold()
    assert server.objects[LEASE]["spec"]["acquireTime"] == "then"


async def test_a_hold_counts_from_before_it_was_asked_for() -> None:
    made = lease(ApiServer())
    before = asyncio.get_running_loop().time()
    await made.hold()

    assert before + LEASE_SECONDS <= made.held_until <= asyncio.get_running_loop().time() + LEASE_SECONDS


async def test_a_hold_that_is_not_renewed_is_taken_over() -> None:
    server = ApiServer()
    server.put(LEASE, spec={"holderIdentity": "gone", "leaseDurationSeconds": 0.02, "renewTime": "old"})
    made = lease(server)
    first = await made.hold()
    await asyncio.sleep(0.03)

    assert (first, await made.hold()) == (False, True)


async def test_of_two_who_take_it_over_at_once_one_holds_it() -> None:
    server = ApiServer()
    server.put(LEASE, spec={"holderIdentity": "gone", "leaseDurationSeconds": 0.02, "renewTime": "old"})
    standbys = [lease(server, name) for name in ("one", "two")]
    await asyncio.gather(*(standby.hold() for standby in standbys))
    await asyncio.sleep(0.03)
    held = await asyncio.gather(*(standby.hold() for standby in standbys))

    assert sorted(held) == [False, True]


async def test_a_hold_that_is_renewed_in_time_is_not_taken_over() -> None:
    server = ApiServer()
    made = lease(server)
    held = []
    for number in range(4):
        server.put(LEASE, spec={"holderIdentity": "alive", "leaseDurationSeconds": 0.02, "renewTime": str(number)})
        held.append(await made.hold())
        await asyncio.sleep(0.03)

    assert not any(held)


async def test_a_lease_that_was_given_back_is_taken_at_once() -> None:
    server = ApiServer()
    first = lease(server, "one")
    await first.hold()
    await first.release()

    assert await lease(server, "two").hold()


async def test_it_is_given_back_though_the_answer_to_a_renewal_was_cut_off() -> None:
    server = ApiServer()
    made = lease(server, "one")
    await made.hold()
    server.put(LEASE, spec={"renewTime": "a moment later"})
    await made.release()

    assert "holderIdentity" not in server.objects[LEASE]["spec"]


async def test_a_lease_that_another_has_taken_is_not_given_back() -> None:
    server = ApiServer()
    made = lease(server, "one")
    await made.hold()
    server.put(LEASE, spec={"holderIdentity": "two"})
    await made.release()

    assert server.objects[LEASE]["spec"]["holderIdentity"] == "two"


async def test_who_does_not_hold_it_gives_nothing_back() -> None:
    server = ApiServer()
    await lease(server).release()

    assert server.asked == []


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(UnavailableError("Unreachable", "no answer"), id="the API server is away"),
        pytest.param(ApiResponse(403, {"message": "forbidden"}), id="it may not be read"),
    ],
)
async def test_what_cannot_be_asked_is_not_held(response: ApiResponse | Exception) -> None:
    server = ApiServer()
    server.responses[f"GET {LEASE}"] = response

    assert not await lease(server).hold()


async def test_a_conflict_is_not_held() -> None:
    server = ApiServer()
    made = lease(server)
    await made.hold()
    server.responses[f"PATCH {LEASE}"] = ApiResponse(409, {"message": "modified"})

    assert not await made.hold()


async def test_ready_is_who_had_an_answer_even_on_standby() -> None:
    server = ApiServer()
    await lease(server, "one").hold()
    standby = lease(server, "two")
    await standby.hold()

    assert standby.seen.is_set()


async def test_it_is_given_back_when_the_work_ends() -> None:
    server, held = ApiServer(), []

    async def work() -> None:
        held.append(server.objects[LEASE]["spec"]["holderIdentity"])

    await lead(lease(server), work)

    assert held == ["one"]
    assert "holderIdentity" not in server.objects[LEASE]["spec"]


async def test_what_the_work_raises_is_raised() -> None:
    async def work() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await lead(lease(ApiServer()), work)


class Slipping(Lease):
    """A Lease that is past its deadline as soon as it was taken."""

    async def hold(self) -> bool:
        await super().hold()
        self.held_until = time.monotonic() + LEASE_SECONDS - DEADLINE_SECONDS
        return True


async def test_who_was_frozen_past_its_end_does_not_take_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_when_it_is_lost_the_hold_is_over_before_the_work_is_cancelled() -> None:
    slipping, held = Slipping(ApiServer(), "keyturn", "keyturn", "one", lambda: NOW), list[bool]()

    async def work() -> None:
        held.append(slipping.held_until > time.monotonic())
        try:
            await asyncio.Event().wait()
        finally:
            held.append(slipping.held_until > time.monotonic())

    with pytest.raises(LeaseLostError):
        await lead(slipping, work)

    assert held == [True, False]
