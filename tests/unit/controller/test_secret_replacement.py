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
from tests.support.manifest_text import writing
from tests.unit.controller.test_secret_store import (
    DATA,
    REQUEST,
    SECRETS,
    TARGET,
    TOKEN_REQUEST,
    cluster,
    issuance,
    issued,
)

IMAGES = writing({"dockerConfigJson": {}})
LOGINS = {".dockerconfigjson": '{"auths": {"planted-host": {}}}', "expiration": DATA["expiration"]}
THEIR_TYPE = "kubernetes.io/basic-auth"
CONSENT = {"annotations": {ADOPTABLE_BY: "acme"}}
OF_LOGINS = issuance(IMAGES, data_hash=data_hash(LOGINS, IMAGES), keys=tuple(LOGINS))


async def test_a_secret_of_ours_with_another_type_is_made_anew() -> None:
    server, store = await issued()
    before = server.meta(TARGET).uid
    await store.write(IMAGES, OF_LOGINS, LOGINS)

    assert (server.objects[TARGET]["type"], server.data(TARGET)) == (DOCKER, LOGINS)
    assert server.meta(TARGET).uid != before
    assert server.objects.keys() == {TARGET, TOKEN_REQUEST}
    assert server.asked == [
        f"PATCH {TARGET}", f"GET {TARGET}", f"POST {SECRETS}", f"DELETE {TARGET}", f"PATCH {TARGET}",
    ]  # fmt: skip


async def test_the_way_back_is_the_same() -> None:
    server, store = cluster()
    await store.write(IMAGES, OF_LOGINS, LOGINS)
    await store.write(REQUEST, issuance(), DATA)

    assert (server.objects[TARGET]["type"], server.data(TARGET)) == (OPAQUE, DATA)


async def test_the_end_of_the_former_is_no_news() -> None:
    server, store = await issued()
    former = server.meta(TARGET)
    await store.write(IMAGES, OF_LOGINS, LOGINS)

    assert (store.cache.observe(former, alive=False), store.cache.is_stale(IMAGES)) == (False, False)
    assert await store.read_target(IMAGES)


async def test_a_rehearsal_on_another_type_tries_the_new_one() -> None:
    server, store = await issued()
    server.responses[f"POST {SECRETS}"] = ApiResponse(403, {"message": "no pull Secrets here"})

    with pytest.raises(RefusedError, match="no pull Secrets here"):
        await store.dry_run(IMAGES)


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(f"POST {SECRETS}", id="of the new one, when it was tried"),
        pytest.param(f"DELETE {TARGET}", id="of the end of the old one"),
    ],
)
async def test_a_refusal_costs_nothing_and_is_told_without_the_data(refused: str) -> None:
    server, store = await issued()
    server.responses[refused] = ApiResponse(403, {"message": 'denied: "planted-host"'})

    with pytest.raises(RefusedError, match=r"^the API server refused to write Secret acme: denied") as error:
        await store.write(IMAGES, OF_LOGINS, LOGINS)

    assert (error.value.reason, "planted" in error.value.message) == ("WriteDenied", False)
    assert server.data(TARGET) == DATA


class Meanwhile(ApiServer):
    """An API server where something happens while it answers the first request of a method."""

    def __init__(self, method: str, happens: Callable[["Meanwhile"], None]) -> None:
        super().__init__()
        self._method, self._happens = method, happens

    async def request(self, method: str, *args: Any, **named: Any) -> ApiResponse:
        response = await super().request(method, *args, **named)
        if method == self._method:
            self._happens(self)
        return response


def _replaced(server: Meanwhile) -> None:
    del server.objects[TARGET]
    server.put(TARGET, data={"theirs": "eA=="})


def _refusing(server: Meanwhile) -> None:
    server.responses[f"PATCH {TARGET}"] = ApiResponse(403, {"message": "the quota is used up"})


async def test_what_took_its_place_meanwhile_is_not_deleted() -> None:
    server = Meanwhile("POST", _replaced)
    store = SecretStore(server)
    await store.write(REQUEST, issuance(), DATA)

    with pytest.raises(RefusedError, match="the object has been modified"):
        await store.write(IMAGES, OF_LOGINS, LOGINS)

    assert server.data(TARGET) == {"theirs": "x"}


async def test_what_was_deleted_and_not_made_anew_is_known_to_be_gone() -> None:
    server = Meanwhile("DELETE", _refusing)
    store = SecretStore(server)
    await store.write(REQUEST, issuance(), DATA)

    with pytest.raises(RefusedError, match="the quota is used up"):
        await store.write(IMAGES, OF_LOGINS, LOGINS)

    assert await store.read_target(IMAGES) is None


async def test_deleted_meanwhile_it_is_made() -> None:
    server, store = await issued()
    del server.objects[TARGET]
    await store.write(IMAGES, OF_LOGINS, LOGINS)

    assert (server.objects[TARGET]["type"], server.count("DELETE")) == (DOCKER, 0)


async def test_an_adopted_secret_of_another_type_is_refused_before_anything_is_exchanged() -> None:
    server, store = cluster()
    server.put(TARGET, type=OPAQUE, data={"theirs": "eA=="}, metadata=CONSENT)

    with pytest.raises(RefusedError, match=f"has type {OPAQUE}, but its formats need {DOCKER}") as refused:
        await store.dry_run(IMAGES)

    assert (refused.value.reason, server.data(TARGET)) == ("TargetConflict", {"theirs": "x"})


async def test_an_adopted_secret_that_has_the_type_is_written() -> None:
    server, store = cluster()
    theirs = {".dockerconfigjson": base64.b64encode(b"{}").decode()}
    server.put(TARGET, type=DOCKER, data=theirs, metadata=CONSENT)
    await store.dry_run(IMAGES)
    await store.write(IMAGES, OF_LOGINS, LOGINS)

    assert (server.data(TARGET), server.count("DELETE")) == (LOGINS, 0)


async def test_an_adopted_secret_keeps_the_type_of_its_maker() -> None:
    server, store = cluster()
    server.put(TARGET, type=THEIR_TYPE, data={"username": "eA=="}, metadata=CONSENT)
    await store.dry_run(REQUEST)
    await store.write(REQUEST, issuance(), DATA)

    assert (server.objects[TARGET]["type"], server.data(TARGET)) == (THEIR_TYPE, {"username": "x", **DATA})
