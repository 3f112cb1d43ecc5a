"""Which of two installations works, in virtual time."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from keyturn.controller.api_client import ApiResponse
from keyturn.controller.leader_election import RETRY_SECONDS
from keyturn.controller.response_body import Page
from keyturn.controller.scope import HOLD_SECONDS
from keyturn.core.errors import UnavailableError
from tests.support.api_server import ApiServer
from tests.support.scope import Installations
from tests.support.virtual_time import in_virtual_time

LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases/keyturn-scope"
CLUSTER_LEASE = "/apis/coordination.k8s.io/v1/namespaces/{}/leases/keyturn-cluster-scope"
FIVE_MINUTES = 300


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param((), (), id="cluster-wide twice"),
        pytest.param(("web",), (), id="namespaced, then cluster-wide"),
        pytest.param(("billing", "web"), ("web", "shop"), id="two namespaced with one namespace in common"),
    ],
)
@in_virtual_time
async def test_second_installation_leaves_the_namespace_to_the_first(
    first: tuple[str, ...], second: tuple[str, ...]
) -> None:
    installations = Installations()
    one = await installations.start("one", *first)
    two = await installations.start("two", *second)
    for _ in range(FIVE_MINUTES):
        assert await installations.workers("web", one, two) == [one]
        assert one.is_held("web")
        assert not two.is_held("web")
        await asyncio.sleep(1)
    assert "installation one" in two.conflict("web")
    assert "installation one" in two.note()


@pytest.mark.parametrize("namespaces", [("web",), ()], ids=["namespaced", "cluster-wide"])
@in_virtual_time
async def test_scope_is_kept_until_the_work_has_ended(namespaces: tuple[str, ...]) -> None:
    installations = Installations()
    one = await installations.start("one", *namespaces)
    installations.kill(one)
    async with one.working(lambda: True):
        two = await installations.start("two", *namespaces)
        # As after a signal, while a token cannot be saved.
        for _ in range(FIVE_MINUTES):
            await asyncio.sleep(1)
            assert await installations.workers("web", one, two) == [one]
    assert await installations.seconds_until("web", two, one) <= HOLD_SECONDS


@in_virtual_time
async def test_installations_work_where_they_do_not_overlap() -> None:
    installations = Installations()
    one = await installations.start("one", "billing", "web")
    two = await installations.start("two", "web", "shop")
    three = await installations.start("three")

    assert await installations.workers("billing", one, three) == [one]
    assert await installations.workers("shop", two, three) == [two]
    assert await installations.workers("other", three) == [three]
    assert three.note() == (
        "ScopeConflict: not renewed here: namespace billing (installation one),"
        " namespace web (installation one), namespace shop (installation two)\n"
    )


@in_virtual_time
async def test_namespaced_installation_takes_over_from_a_cluster_wide_one() -> None:
    installations = Installations()
    wide = await installations.start("wide")
    assert await installations.workers("web", wide) == [wide]
    scoped = await installations.start("scoped", "web")

    assert await installations.seconds_until("web", scoped, wide) <= HOLD_SECONDS + 10
    assert await installations.workers("other", wide) == [wide]


@in_virtual_time
async def test_namespaced_installation_waits_again_after_a_restart() -> None:
    installations = Installations()
    wide = await installations.start("wide")
    await wide.claim("web")
    scoped = await installations.start("scoped", "web")
    installations.kill(scoped)
    scoped = await installations.start("scoped", "web")

    assert await installations.seconds_until("web", scoped, wide) > HOLD_SECONDS
    await asyncio.sleep(HOLD_SECONDS / 2)
    installations.kill(scoped)
    assert await (await installations.start("scoped", "web")).claim("web") == ""


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param((), (), id="cluster-wide twice"),
        pytest.param(("web",), (), id="namespaced, and cluster-wide takes over"),
        pytest.param((), ("web",), id="cluster-wide, and namespaced takes over"),
        pytest.param(("billing", "web"), ("web", "shop"), id="two namespaced"),
    ],
)
@pytest.mark.parametrize("is_killed", [pytest.param(True, id="killed"), pytest.param(False, id="uninstalled")])
@in_virtual_time
async def test_namespace_is_taken_over_within_five_minutes(
    first: tuple[str, ...], second: tuple[str, ...], *, is_killed: bool
) -> None:
    installations = Installations()
    one = await installations.start("one", *first)
    await one.claim("web")
    two = await installations.start("two", *second)
    await asyncio.sleep(1)
    if is_killed:
        installations.kill(one)
    else:
        await installations.stop(one)

    assert await installations.seconds_until("web", two, one) < FIVE_MINUTES
    assert two.note() == ""


@pytest.mark.parametrize("namespaces", [pytest.param((), id="cluster-wide"), pytest.param(("web",), id="namespaced")])
@in_virtual_time
async def test_installation_that_comes_back_does_not_work_beside_its_successor(namespaces: tuple[str, ...]) -> None:
    installations = Installations()
    one = await installations.start("one", *namespaces)
    await one.claim("web")
    two = await installations.start("two")
    installations.kill(one)
    await installations.seconds_until("web", two, one)
    back = await installations.start("one", *namespaces)
    for _ in range(FIVE_MINUTES):
        assert len(await installations.workers("web", back, two)) <= 1
        assert not (back.is_held("web") and two.is_held("web"))
        await asyncio.sleep(1)
    assert await installations.workers("web", back, two) == [back if namespaces else two]


@in_virtual_time
async def test_deleted_namespace_does_not_make_others_be_checked_often() -> None:
    installations = Installations()
    missing = ApiResponse(404, {"message": 'namespaces "gone" not found'})
    installations.server.responses[f"POST {LEASES.format('gone').rpartition('/')[0]}"] = missing
    one = await installations.start("one", "gone", "web")
    before = len(installations.server.requests)
    for _ in range(FIVE_MINUTES):
        assert await installations.workers("web", one) == [one]
        await asyncio.sleep(1)

    requests = installations.server.requests[before:]
    assert sum("/gone/" in line for line in requests) >= 2 * FIVE_MINUTES / RETRY_SECONDS - 2
    assert sum("/web/" in line for line in requests) <= 2 * FIVE_MINUTES / 20


@pytest.mark.parametrize("seconds", range(100, 130, 5))
@in_virtual_time
async def test_lease_that_a_tenant_holds_delays_no_other_namespace(seconds: int) -> None:
    installations = Installations()
    spec = {"holderIdentity": "tenant", "leaseDurationSeconds": 600, "renewTime": None}
    installations.server.put(LEASES.format("tenant"), metadata={}, spec=spec)
    one = await installations.start("one", "tenant", "web")
    unavailable = UnavailableError("Unreachable", "no response")
    installations.server.responses = {f"GET {LEASES.format(name)}": unavailable for name in ("tenant", "web")}
    await asyncio.sleep(seconds)

    installations.server.responses = {}
    await asyncio.sleep(RETRY_SECONDS + 1)
    assert await installations.workers("web", one) == [one]


@in_virtual_time
async def test_cluster_wide_installations_that_start_together_agree() -> None:
    installations = Installations()
    one, two = await asyncio.gather(installations.start("one"), installations.start("two"))
    for _ in range(FIVE_MINUTES):
        assert len(await installations.workers("web", one, two)) <= 1
        await asyncio.sleep(1)
    assert len(await installations.workers("web", one, two)) == 1


@in_virtual_time
async def test_restart_of_an_installation_alone_waits_for_nothing() -> None:
    installations = Installations()
    for namespaces in ((), ("web",)):
        name = f"install-{len(namespaces)}"
        installation = await installations.start(name, *namespaces)
        if not namespaces:
            await installation.claim("other")
        installations.kill(installation)
        again = await installations.start(name, *namespaces)

        assert await installations.workers(namespaces[0] if namespaces else "other", again) == [again]


@in_virtual_time
async def test_forged_cluster_lease_stops_nobody() -> None:
    installations = Installations()
    installations.allow_cluster_wide(allowed=False)
    for number, user in enumerate(("", "system:serviceaccount:keyturn:keyturn", "system:serviceaccount:t2:default")):
        metadata = {"labels": {"keyturn.dev/scope": "cluster"}, "annotations": {"keyturn.dev/user": user}}
        spec = {"holderIdentity": "forged", "acquireTime": "1970-01-01T00:00:00.000000Z"}
        installations.server.put(CLUSTER_LEASE.format(f"t{number}"), metadata=metadata, spec=spec)

    wide = await installations.start("wide")
    assert await installations.workers("web", wide) == [wide]
    # One of the three names a ServiceAccount of its own namespace; its rights are reviewed in both lists.
    assert sum("subjectaccessreviews" in line for line in installations.server.requests) == 2


class SlowReviews(ApiServer):
    """Takes `pause[0]` seconds for each review of a user's rights. More than a minute is no response.

    With a `pause[0]` of -1, it refuses them at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pause = [0]

    async def request(self, method: str, path: str, body: object = None, **more: Any) -> ApiResponse:
        if path.endswith("subjectaccessreviews"):
            await asyncio.sleep(max(0, self.pause[0]))
            if not 0 <= self.pause[0] <= 60:
                raise UnavailableError("Unreachable", "no response")
        return await super().request(method, path, body, **more)


@pytest.mark.parametrize("seconds", [pytest.param(5, id="slow"), pytest.param(91, id="no response")])
@in_virtual_time
async def test_forged_leases_that_cannot_be_reviewed_stop_nobody(seconds: int) -> None:
    server = SlowReviews()
    installations = Installations(server)
    installations.allow_cluster_wide(allowed=False)
    wide = await installations.start("wide")
    server.pause[0] = seconds
    for minute in range(5):
        for number in range(20):
            user = f"system:serviceaccount:t{number}:default"
            metadata = {"labels": {"keyturn.dev/scope": "cluster"}, "annotations": {"keyturn.dev/user": user}}
            spec = {"holderIdentity": f"forged-{minute}", "acquireTime": "1970-01-01T00:00:00.000000Z"}
            server.put(CLUSTER_LEASE.format(f"t{number}"), metadata=metadata, spec=spec)
        for _ in range(60):
            assert await installations.workers("web", wide) == [wide]
            await asyncio.sleep(1)


@pytest.mark.parametrize("seconds", [pytest.param(5, id="slow"), pytest.param(91, id="no response")])
@in_virtual_time
async def test_installation_that_cannot_review_the_first_one_waits(seconds: int) -> None:
    server = SlowReviews()
    installations = Installations(server)
    one = await installations.start("one")
    server.pause[0] = seconds
    two = await installations.start("two")
    for _ in range(FIVE_MINUTES):
        assert await installations.workers("web", one, two) == [one]
        assert not two.is_held("web")
        await asyncio.sleep(1)


@pytest.mark.parametrize("recovery", [60, 120, FIVE_MINUTES])
@in_virtual_time
async def test_active_installation_must_stop_before_an_older_one_starts(recovery: int) -> None:
    server = SlowReviews()
    installations = Installations(server)
    # The older one reviews this forged Lease before it writes its own, and its clock is late.
    user = {"keyturn.dev/user": "system:serviceaccount:t:default"}
    metadata = {"labels": {"keyturn.dev/scope": "cluster"}, "annotations": user}
    server.put(CLUSTER_LEASE.format("t"), metadata=metadata, spec={"holderIdentity": "forged"})
    installations.allow_cluster_wide(allowed=False)
    server.pause[0], now = 2, installations.now
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(installations, "now", lambda: now() - timedelta(seconds=5))
        starting = asyncio.ensure_future(installations.start("older"))
        await asyncio.sleep(1)
    server.delete(CLUSTER_LEASE.format("t"))
    active = await installations.start("active")
    await asyncio.sleep(2)
    installations.allow_cluster_wide(allowed=True)
    older = await starting

    server.pause[0] = -1
    for second in range(2 * FIVE_MINUTES):
        if second == recovery:
            server.pause[0] = 0
        assert len(await installations.workers("web", active, older)) <= 1
        await asyncio.sleep(1)
    assert await installations.workers("web", active, older) == [older]


@pytest.mark.parametrize("namespaces", [pytest.param((), id="cluster-wide"), pytest.param(("web",), id="namespaced")])
@pytest.mark.parametrize(
    "response",
    [
        pytest.param(ApiResponse(403, {"message": "leases is forbidden"}), id="forbidden"),
        pytest.param(UnavailableError("Unreachable", "no response"), id="unreachable"),
    ],
)
@in_virtual_time
async def test_installation_stops_before_its_hold_ends_without_the_api_server(
    namespaces: tuple[str, ...], response: ApiResponse | Exception
) -> None:
    installations = Installations()
    installation = await installations.start("one", *namespaces)
    assert await installation.claim("web") == ""
    for path in (LEASES.format("web"), CLUSTER_LEASE.format("one"), "/apis/coordination.k8s.io/v1/leases"):
        installations.server.responses[f"GET {path}"] = response
    await asyncio.sleep(HOLD_SECONDS * 3 / 4)

    assert await installation.claim("web")
    await asyncio.sleep(HOLD_SECONDS / 4)
    assert not installation.is_held("web")
    assert bool(installation.problem()) == isinstance(response, ApiResponse)


@in_virtual_time
async def test_claim_of_a_cluster_wide_installation_is_written_once() -> None:
    installations = Installations()
    wide = await installations.start("wide")
    results = await asyncio.gather(*(wide.claim("web") for _ in range(10)))
    await asyncio.sleep(FIVE_MINUTES)
    await wide.claim("web")

    assert set(results) == {""}
    path = LEASES.format("web")
    assert [line for line in installations.server.requests if line.startswith("POST") and "/web/" in line] == [
        f"POST {path.rpartition('/')[0]}"
    ]
    assert f"PATCH {path}" not in installations.server.requests


@in_virtual_time
async def test_lease_without_our_label_is_read_once_in_a_check() -> None:
    installations = Installations()
    wide = await installations.start("wide")
    installations.server.put(LEASES.format("web"), spec={"holderIdentity": "forged"})
    for _ in range(10):
        assert "has no label keyturn.dev/scope" in await wide.claim("web")
    assert [line for line in installations.server.requests if "/web/" in line] == [f"GET {LEASES.format('web')}"]


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(UnavailableError("Unavailable", "HTTP 503"), id="unavailable"),
        pytest.param(ApiResponse(403, {"message": "leases is forbidden"}), id="forbidden"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
@in_virtual_time
async def test_refused_claim_is_repeated_before_the_next_check(method: str, failure: ApiResponse | Exception) -> None:
    installations = Installations()
    wide = await installations.start("wide")
    path = LEASES.format("web")
    failing = f"{method} {path if method == 'GET' else path.rpartition('/')[0]}"
    installations.server.responses[failing] = failure
    for _ in range(2 * RETRY_SECONDS):
        assert await wide.claim("web")
        await asyncio.sleep(0.5)
    assert installations.server.requests.count(failing) == 1
    del installations.server.responses[failing]

    assert await wide.claim("web") == ""


@in_virtual_time
async def test_claim_that_is_always_refused_is_seldom_repeated() -> None:
    installations = Installations()
    wide = await installations.start("wide")
    failing = f"GET {LEASES.format('web')}"
    installations.server.responses[failing] = ApiResponse(403, {"message": "leases is forbidden"})
    for _ in range(FIVE_MINUTES):
        assert "leases is forbidden" in await wide.claim("web")
        await asyncio.sleep(1)

    assert installations.server.requests.count(failing) <= 4 * (FIVE_MINUTES / 60 + 1)


@pytest.mark.parametrize("name", ["keyturn-scope", "keyturn-cluster-scope"])
@pytest.mark.parametrize(
    ("metadata", "spec"),
    [
        pytest.param({"ownerReferences": [{"uid": "o", "name": "<" * 1_400_000}]}, {}, id="metadata"),
        pytest.param({"annotations": {"keyturn.dev/user": "<" * 250_000}}, {"holderIdentity": "x"}, id="user"),
        pytest.param({}, {"holderIdentity": "<" * 1_400_000}, id="holder"),
        pytest.param({}, {"holderIdentity": None, "acquireTime": None}, id="null"),
    ],
)
@in_virtual_time
async def test_large_leases_of_a_tenant_stop_no_other_namespace(
    name: str, metadata: dict[str, Any], spec: dict[str, Any]
) -> None:
    installations = Installations()
    for number in range(3):
        path = LEASES.format(f"t{number}").replace("keyturn-scope", name)
        labels = {"labels": {"keyturn.dev/scope": "namespaced"}}
        installations.server.put(path, metadata=metadata | labels, spec=spec)
    wide = await installations.start("wide")
    for _ in range(3):
        assert await installations.workers("web", wide) == [wide]
        assert len(wide.note()) < 1000
        await asyncio.sleep(HOLD_SECONDS)


@in_virtual_time
async def test_holder_in_a_message_is_short() -> None:
    installations = Installations()
    spec = {"holderIdentity": "x" * 1_000_000, "leaseDurationSeconds": 3600}
    installations.server.put(LEASES.format("web"), spec=spec)
    scoped = await installations.start("scoped", "web")
    conflict = scoped.conflict("web")

    assert "installation xxx" in conflict
    assert len(conflict) < 500


@in_virtual_time
async def test_installation_that_others_cannot_verify_renews_nothing() -> None:
    installations = Installations()
    path = "POST /apis/authentication.k8s.io/v1/selfsubjectreviews"
    installations.server.responses[path] = ApiResponse(403, {"message": "forbidden"})
    wide = await installations.start("wide")
    assert await wide.claim("web")
    assert "own user: forbidden" in wide.problem()
    del installations.server.responses[path]
    await wide.check()
    assert await wide.claim("web") == ""


class SlowServer(ApiServer):
    """Takes `pause[0]` seconds for each list, and a minute for each write in the namespace "slow"."""

    def __init__(self) -> None:
        super().__init__()
        self.pause = [0]

    async def request(self, method: str, path: str, body: object = None, **more: Any) -> ApiResponse:
        await asyncio.sleep(60 if method != "GET" and "/namespaces/slow/" in path else 0)
        return await super().request(method, path, body, **more)

    async def list_page(self, *args: Any, **more: Any) -> Page | None:
        await asyncio.sleep(self.pause[0])
        return await super().list_page(*args, **more)


@in_virtual_time
async def test_slow_list_of_leases_does_not_delay_a_claim() -> None:
    server = SlowServer()
    one = await Installations(server).start("one")
    server.pause[0] = 20
    check = asyncio.ensure_future(one.check())
    await asyncio.sleep(1)

    async with asyncio.timeout(1):
        assert await one.claim("web") == ""
    await check
    assert one.is_held("web")


@in_virtual_time
async def test_slow_lease_of_a_namespace_delays_no_other() -> None:
    one = await Installations(SlowServer()).start("one")
    claim = asyncio.ensure_future(one.claim("slow"))
    await asyncio.sleep(1)

    async with asyncio.timeout(1):
        assert await one.claim("web") == ""
    assert await claim == ""
