import asyncio
import base64

import pytest

from keyturn.controller.api_client import ApiResponse
from keyturn.controller.issuance_key import IssuanceKeySecret
from keyturn.core.errors import UnavailableError
from tests.support.api_server import ApiServer
from tests.support.virtual_time import in_virtual_time

SECRETS = "/api/v1/namespaces/keyturn/secrets"
KEY = f"{SECRETS}/keyturn-issuance-key"
FORBIDDEN = ApiResponse(403, {"message": 'secrets is forbidden: User "keyturn" cannot do that'})
UNREACHABLE = UnavailableError("Unavailable", "the API server returned HTTP 500")


def key_secret(server: ApiServer) -> IssuanceKeySecret:
    return IssuanceKeySecret(server, "keyturn", "keyturn-issuance-key")


def encoded(**keys: bytes) -> dict[str, str]:
    return {number: base64.b64encode(key).decode() for number, key in keys.items()}


async def test_first_start_creates_a_key_without_labels() -> None:
    server = ApiServer()
    keys = await key_secret(server).load()

    assert [len(key) for key in keys.keys.values()] == [32]
    assert "labels" not in server.objects[KEY]["metadata"]
    assert await key_secret(server).load() == keys


async def test_replicas_that_start_together_use_the_same_key() -> None:
    server = ApiServer()
    one, two = await asyncio.gather(key_secret(server).load(), key_secret(server).load())

    assert one == two
    assert server.requests.count(f"POST {SECRETS}") == 2


async def test_standby_waits_for_no_key_and_creates_none() -> None:
    server = ApiServer()
    standby = key_secret(server)
    await standby.wait()

    assert (standby.problem, server.objects) == ("", {})


async def load_later(server: ApiServer, after: float, problem: str) -> IssuanceKeySecret:
    """Start while a request fails; after `after` seconds the API server works again."""
    secret = key_secret(server)
    loading = asyncio.ensure_future(secret.load())
    await asyncio.sleep(after)
    assert not loading.done()
    assert problem in secret.problem
    server.responses.clear()
    await loading
    return secret


@pytest.mark.parametrize(
    ("failure", "problem"),
    [
        pytest.param(FORBIDDEN, "lacks the right to get the Secret keyturn-issuance-key", id="403"),
        pytest.param(UNREACHABLE, "HTTP 500", id="500"),
        pytest.param(ApiResponse(200, {"message": "HTML", "metadata": {}}), "length >= 1", id="not the Secret"),
        pytest.param(ApiResponse(400, {"message": "HTTP 400, not JSON"}), "not JSON", id="400"),
    ],
)
@in_virtual_time
async def test_unreadable_key_is_never_replaced(failure: ApiResponse | Exception, problem: str) -> None:
    server = ApiServer()
    server.put(KEY, data=encoded(**{"3": b"k" * 32}))
    server.responses[f"GET {KEY}"] = failure
    secret = await load_later(server, 600, problem)

    assert (secret.problem, server.count("POST")) == ("", 0)
    assert server.objects[KEY]["data"] == encoded(**{"3": b"k" * 32})


@in_virtual_time
async def test_missing_right_to_create_is_named() -> None:
    server = ApiServer()
    server.responses[f"POST {SECRETS}"] = FORBIDDEN
    await load_later(server, 60, "lacks the right to create secrets")

    assert KEY in server.objects


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({}, id="empty"),
        pytest.param(encoded(**{"2": b"too short"}), id="too short"),
        pytest.param(encoded(new=b"k" * 32), id="not a number"),
        pytest.param(encoded(**{"0": b"k" * 32}), id="zero"),
    ],
)
@in_virtual_time
async def test_invalid_key_stops_the_start(data: dict[str, str]) -> None:
    server = ApiServer()
    server.put(KEY, data=data)
    secret = key_secret(server)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(secret.load(), 600)

    assert "at least 16 random bytes" in secret.problem
    assert server.count("POST") == 0


async def keep_for(server: ApiServer, seconds: float) -> None:
    secret = key_secret(server)
    keys = await secret.load()
    server.requests.clear()
    if seconds:
        server.objects.pop(KEY)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(secret.keep(keys), seconds or 300)
    assert await key_secret(server).load() == keys


@in_virtual_time
async def test_deleted_key_is_written_back_within_a_minute() -> None:
    await keep_for(ApiServer(), 61)


@in_virtual_time
async def test_unchanged_key_is_only_read() -> None:
    server = ApiServer()
    await keep_for(server, 0)

    assert server.count("POST") == 0


@in_virtual_time
async def test_failures_while_running_do_not_stop_the_check() -> None:
    server = ApiServer()
    secret = key_secret(server)
    keys = await secret.load()
    server.objects.pop(KEY)
    server.responses[f"GET {KEY}"] = UNREACHABLE
    keeping = asyncio.ensure_future(secret.keep(keys))
    await asyncio.sleep(200)
    server.responses.clear()
    await asyncio.sleep(61)
    keeping.cancel()
    assert await key_secret(server).load() == keys


@in_virtual_time
async def test_invalid_key_is_reported_before_the_next_leader_needs_it(caplog: pytest.LogCaptureFixture) -> None:
    server = ApiServer()
    secret = key_secret(server)
    keys = await secret.load()
    server.put(KEY, data={"new": "a2V5"})
    keeping = asyncio.ensure_future(secret.keep(keys))
    await asyncio.sleep(61)
    keeping.cancel()

    assert "its data needs at least one key" in caplog.text
    assert (server.count("POST"), secret.problem) == (1, "")


async def test_key_that_was_deleted_while_stopped_is_new() -> None:
    server = ApiServer()
    before = await key_secret(server).load()
    server.objects.pop(KEY)

    assert await key_secret(server).load() != before


async def test_added_key_signs_after_a_restart() -> None:
    server = ApiServer()
    before = await key_secret(server).load()
    server.put(KEY, data=encoded(**{"2": b"k" * 32}))

    assert (await key_secret(server).load()).keys == {**before.keys, 2: b"k" * 32}
