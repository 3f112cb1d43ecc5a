import base64
from collections.abc import Callable
from typing import Any

import pytest

from keyturn.api.token_request import DOCKER, OPAQUE
from keyturn.controller.api_client import ApiResponse
from keyturn.controller.secret_store import SecretStore
from keyturn.core.errors import RefusedError
from keyturn.core.issuance import ADOPTABLE_BY, data_hash
from tests.support.api_server import ApiServer
from tests.support.issuance_keys import KEYS
from tests.support.manifest_text import with_formats
from tests.support.secret_store import DATA, REQUEST, SECRETS, TARGET, TOKEN_REQUEST, cluster, issuance, issued

DOCKER_REQUEST = with_formats({"dockerConfigJson": {}})
LOGINS = {".dockerconfigjson": '{"auths": {"planted-host": {}}}', "expiration": DATA["expiration"]}
BASIC_AUTH = "kubernetes.io/basic-auth"
CONSENT = {"annotations": {ADOPTABLE_BY: "acme"}}
DOCKER_ISSUANCE = issuance(DOCKER_REQUEST, data_hash=data_hash(LOGINS, DOCKER_REQUEST), keys=tuple(LOGINS))


async def test_own_secret_of_another_type_is_recreated() -> None:
    server, store = await issued()
    before = server.meta(TARGET).uid
    await store.write(DOCKER_REQUEST, DOCKER_ISSUANCE, LOGINS)

    assert (server.objects[TARGET]["type"], server.data(TARGET)) == (DOCKER, LOGINS)
    assert server.meta(TARGET).uid != before
    assert server.objects.keys() == {TARGET, TOKEN_REQUEST}
    assert server.requests == [
        f"PATCH {TARGET}", f"GET {TARGET}", f"POST {SECRETS}", f"DELETE {TARGET}", f"PATCH {TARGET}",
    ]  # fmt: skip


async def test_deletion_event_of_the_recreated_secret_is_ignored() -> None:
    server, store = await issued()
    former = server.meta(TARGET)
    await store.write(DOCKER_REQUEST, DOCKER_ISSUANCE, LOGINS)

    assert (store.cache.observe(former, alive=False), store.cache.is_stale(DOCKER_REQUEST)) == (False, False)
    assert await store.read_target(DOCKER_REQUEST)


async def test_end_of_a_secret_that_a_finalizer_keeps_is_noticed() -> None:
    server, store = await issued()
    former = server.meta(TARGET)
    server.responses[f"DELETE {TARGET}"] = ApiResponse(200, {})
    with pytest.raises(RefusedError):
        await store.write(DOCKER_REQUEST, DOCKER_ISSUANCE, LOGINS)

    assert store.cache.observe(former, alive=False)


async def test_dry_run_with_another_type_tries_the_new_secret() -> None:
    server, store = await issued()
    server.responses[f"POST {SECRETS}"] = ApiResponse(403, {"message": "no pull Secrets here"})

    with pytest.raises(RefusedError, match="no pull Secrets here"):
        await store.dry_run(DOCKER_REQUEST)


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(f"POST {SECRETS}", id="creation of the new one"),
        pytest.param(f"DELETE {TARGET}", id="deletion of the old one"),
    ],
)
async def test_refused_replacement_keeps_the_secret_and_hides_its_data(refused: str) -> None:
    server, store = await issued()
    server.responses[refused] = ApiResponse(403, {"message": 'denied: "planted-host"'})

    with pytest.raises(RefusedError, match=r"^the API server refused to write Secret acme: denied") as error:
        await store.write(DOCKER_REQUEST, DOCKER_ISSUANCE, LOGINS)

    assert (error.value.reason, "planted" in error.value.message) == ("WriteDenied", False)
    assert server.data(TARGET) == DATA


class RacingServer(ApiServer):
    """An API server that calls `interfere` before it returns the response to a method."""

    def __init__(self, method: str, interfere: Callable[["RacingServer"], None]) -> None:
        super().__init__()
        self._method, self._interfere = method, interfere

    async def request(self, method: str, *args: Any, **kwargs: Any) -> ApiResponse:
        response = await super().request(method, *args, **kwargs)
        if method == self._method:
            self._interfere(self)
        return response


def _recreate(server: RacingServer) -> None:
    del server.objects[TARGET]
    server.put(TARGET, data={"theirs": "eA=="})


def _refuse_writes(server: RacingServer) -> None:
    server.responses[f"PATCH {TARGET}"] = ApiResponse(403, {"message": "quota exceeded"})


async def test_secret_recreated_by_others_is_not_deleted() -> None:
    server = RacingServer("POST", _recreate)
    store = SecretStore(server, KEYS)
    await store.write(REQUEST, issuance(), DATA)

    with pytest.raises(RefusedError, match="the object has been modified"):
        await store.write(DOCKER_REQUEST, DOCKER_ISSUANCE, LOGINS)

    assert server.data(TARGET) == {"theirs": "x"}


async def test_secret_deleted_but_not_recreated_counts_as_deleted() -> None:
    server = RacingServer("DELETE", _refuse_writes)
    store = SecretStore(server, KEYS)
    await store.write(REQUEST, issuance(), DATA)

    with pytest.raises(RefusedError, match="quota exceeded"):
        await store.write(DOCKER_REQUEST, DOCKER_ISSUANCE, LOGINS)

    assert await store.read_target(DOCKER_REQUEST) is None


async def test_secret_deleted_in_the_meantime_is_created() -> None:
    server, store = await issued()
    del server.objects[TARGET]
    await store.write(DOCKER_REQUEST, DOCKER_ISSUANCE, LOGINS)

    assert (server.objects[TARGET]["type"], server.count("DELETE")) == (DOCKER, 0)


async def test_adopted_secret_of_another_type_is_refused_before_the_exchange() -> None:
    server, store = cluster()
    server.put(TARGET, type=OPAQUE, data={"theirs": "eA=="}, metadata=CONSENT)

    with pytest.raises(RefusedError, match=f"has type {OPAQUE}, but its formats need {DOCKER}") as refused:
        await store.dry_run(DOCKER_REQUEST)

    assert (refused.value.reason, server.data(TARGET)) == ("TargetConflict", {"theirs": "x"})


async def test_adopted_secret_of_the_right_type_is_written() -> None:
    server, store = cluster()
    theirs = {".dockerconfigjson": base64.b64encode(b"{}").decode()}
    server.put(TARGET, type=DOCKER, data=theirs, metadata=CONSENT)
    await store.dry_run(DOCKER_REQUEST)
    await store.write(DOCKER_REQUEST, DOCKER_ISSUANCE, LOGINS)

    assert (server.data(TARGET), server.count("DELETE")) == (LOGINS, 0)


async def test_adopted_secret_keeps_its_type() -> None:
    server, store = cluster()
    server.put(TARGET, type=BASIC_AUTH, data={"username": "eA=="}, metadata=CONSENT)
    await store.dry_run(REQUEST)
    await store.write(REQUEST, issuance(), DATA)

    assert (server.objects[TARGET]["type"], server.data(TARGET)) == (BASIC_AUTH, {"username": "x", **DATA})
