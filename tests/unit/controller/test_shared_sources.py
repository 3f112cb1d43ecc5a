"""Requests with the same source read it once a second, but never an outdated value after a change."""

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from keyturn.api.token_request import RENEW_REQUESTED, Request
from keyturn.controller.api_client import ApiResponse
from keyturn.controller.source_reader import SourceReader
from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.pipeline_values import SourceValues
from tests.support.api_server import ApiServer
from tests.support.controller import Operator, issued
from tests.support.dependencies import MINUTE, NOW, SECOND, manifest, request, rotating, single_use, with_code
from tests.support.secret_store import SECRETS, SOURCE, TARGET

FIRST, SECOND_VALUE = "Zmlyc3Q=", "c2Vjb25k"
READ = f"GET {SOURCE}"


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def reader() -> tuple[ApiServer, SourceReader, Clock]:
    server, clock = ApiServer(), Clock()
    server.put(SOURCE, data={"license_token": FIRST})
    return server, SourceReader(server, clock), clock


async def read(sources: SourceReader, *, shared: bool = True) -> str:
    return (await sources.read(request(), shared=shared)).token or ""


async def test_concurrent_reads_are_one() -> None:
    server, sources, _ = reader()
    values = await asyncio.gather(*(read(sources) for _ in range(16)))

    assert set(values) == {"first"}
    assert server.requests == [READ]


@pytest.mark.parametrize(("seconds", "value"), [(0.9, "first"), (1.0, "second")])
async def test_value_is_used_for_a_second(seconds: float, value: str) -> None:
    server, sources, clock = reader()
    await read(sources)
    server.put(SOURCE, data={"license_token": SECOND_VALUE})
    clock.seconds = seconds

    assert await read(sources) == value


async def test_value_is_dropped_after_a_second() -> None:
    _, sources, _ = reader()
    await read(sources)
    assert sources._shared
    await asyncio.sleep(1.1)

    assert not sources._shared


async def test_large_sources_use_no_memory_after_they_are_read() -> None:
    server, sources, _ = reader()
    for number in range(10):
        server.put(f"{SECRETS}/large-{number}", data={"license_token": "A" * 10**6})
    tracemalloc.start()
    try:
        for number in range(10):
            source = {"token": {"secretKeyRef": {"name": f"large-{number}", "key": "license_token"}}}
            with suppress(RefusedError):
                await sources.read(request(source=source), shared=True)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 10**6


async def test_value_that_is_not_shared_is_read_again() -> None:
    server, sources, _ = reader()
    await read(sources)
    server.put(SOURCE, data={"license_token": SECOND_VALUE})

    assert await read(sources, shared=False) == "second"


@pytest.mark.parametrize("name", ["license", ""], ids=["this Secret", "the namespace"])
async def test_read_that_began_before_a_change_is_not_shared_after_it(name: str) -> None:
    server, sources, _ = reader()
    early = asyncio.ensure_future(read(sources))
    await asyncio.sleep(0)
    sources.forget("billing", name)
    late = asyncio.ensure_future(read(sources))

    assert {*await asyncio.gather(early, late)} == {"first"}
    assert server.requests == [READ, READ]


async def test_each_request_reports_its_own_failure() -> None:
    server, sources, _ = reader()
    server.responses[READ] = ApiResponse(404, {})
    failures = await asyncio.gather(*(read(sources) for _ in range(3)), return_exceptions=True)
    server.responses.clear()

    assert [type(failure) for failure in failures] == [RefusedError] * 3
    assert len({id(failure) for failure in failures}) == 3
    assert await read(sources) == "first"


async def test_cancelled_read_fails_no_other_request() -> None:
    _, sources, _ = reader()
    first, second = (asyncio.ensure_future(read(sources)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()

    assert await second == "first"


async def test_request_that_is_cancelled_leaves_the_read_to_others() -> None:
    _, sources, _ = reader()
    first, second = (asyncio.ensure_future(read(sources)) for _ in range(2))
    await asyncio.sleep(0)
    second.cancel()

    assert await first == "first"


async def change_of_the_source(operator: Operator) -> None:
    operator.controller.on_source_secret(operator.server.meta(SOURCE), _alive=True)


async def change_of_a_managed_source(operator: Operator) -> None:
    operator.controller.on_secret(operator.server.meta(SOURCE), alive=True)


async def requested_renewal(operator: Operator) -> None:
    await operator.deliver(annotations={RENEW_REQUESTED: "now"})


async def changed_spec(operator: Operator) -> None:
    await operator.deliver(region="eu-west-1")


async def deleted_target(operator: Operator) -> None:
    meta = operator.server.meta(TARGET)
    del operator.server.objects[TARGET]
    operator.controller.on_secret(meta, alive=False)


@pytest.mark.parametrize(
    "event",
    [change_of_the_source, change_of_a_managed_source, requested_renewal, changed_spec, deleted_target],
)
async def test_event_after_a_change_of_the_source_makes_it_read_again(
    event: Callable[[Operator], Awaitable[None]],
) -> None:
    operator = await issued()
    operator.outside.now = NOW + MINUTE
    values = operator.store.sources
    assert await values.read(request(), shared=True) == SourceValues("refresh")
    operator.server.put(SOURCE, data={"license_token": SECOND_VALUE})
    assert await values.read(request(), shared=True) == SourceValues("refresh")

    await event(operator)
    assert await values.read(request(), shared=True) == SourceValues("second")


async def test_requests_that_are_due_together_read_their_source_once() -> None:
    operator = await issued()
    for number in range(2, 5):
        body = manifest(f"acme-{number}")
        await operator.controller.on_request(body, alive=True)
    await operator.reconcile_due(NOW + SECOND)
    operator.server.requests.clear()
    await operator.reconcile_due(NOW + 41 * MINUTE)

    assert operator.server.requests.count(READ) == 1
    assert operator.server.count("GET") == 1


async def test_request_whose_last_attempt_failed_reads_the_source_itself() -> None:
    operator = Operator()
    operator.aws.failures = [UnavailableError("Unreachable", "no response")]
    await operator.deliver()
    await operator.reconcile_due()
    operator.outside.now = operator.work_queue.next_due() or NOW
    await operator.store.read_source(request(), shared=True)
    operator.server.requests.clear()
    await operator.reconcile_due()

    assert READ in operator.server.requests


@pytest.mark.parametrize("consuming", [rotating(), single_use()], ids=["a refresh token", "a code"])
async def test_source_that_is_consumed_is_always_read_again(consuming: Request) -> None:
    env = with_code()
    shared = [f"GET {SECRETS}/{name}" for name in consuming.spec.secrets_read if name in env.secrets.names()]
    for name in env.secrets.names():
        source = {"token": {"secretKeyRef": {"name": name, "key": "license_token"}}}
        with suppress(RefusedError):
            await env.secrets.store.read_source(request(source=source), shared=True)
    env.secrets.server.requests.clear()
    await env.reconcile(consuming)

    assert {*shared} <= {*env.secrets.server.requests}
