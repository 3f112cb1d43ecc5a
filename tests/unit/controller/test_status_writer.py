import pytest

from keyturn.api.status import Status
from keyturn.controller.api_client import ApiResponse
from keyturn.controller.status_writer import StatusWriter
from keyturn.core.errors import BeingDeletedError, KeyturnError, RefusedError, UnavailableError
from keyturn.core.status import Event
from tests.support.api_server import ApiServer
from tests.support.dependencies import NOW
from tests.unit.controller.test_secret_store import TOKEN_REQUEST
from tests.unit.core.test_status import FIRST, REQUEST

EVENTS = "/api/v1/namespaces/billing/events"
WHO = (REQUEST.namespace, REQUEST.name, REQUEST.uid)


def cluster() -> tuple[ApiServer, StatusWriter]:
    server = ApiServer()
    server.put(TOKEN_REQUEST, metadata={"name": "acme", "uid": REQUEST.uid})
    return server, StatusWriter(server, lambda: NOW, "pod-1")


async def test_a_status_is_told_as_the_crd_has_it() -> None:
    server, status_writer = cluster()
    await status_writer.status(*WHO, FIRST)
    told = server.objects[TOKEN_REQUEST]["status"]

    assert (told["expirationTime"], told["revision"]) == ("2026-01-02T04:04:05Z", 1)
    assert [one["type"] for one in told["conditions"]] == ["Ready", "Renewed"]


async def test_what_is_not_told_any_more_goes() -> None:
    server, status_writer = cluster()
    await status_writer.status(*WHO, FIRST)
    await status_writer.status(*WHO, Status(observed_generation=2))

    assert "expirationTime" not in server.objects[TOKEN_REQUEST]["status"]
    assert server.objects[TOKEN_REQUEST]["status"]["conditions"] == []


@pytest.mark.parametrize(
    ("name", "uid", "error"),
    [
        pytest.param("gone", REQUEST.uid, BeingDeletedError, id="it is gone"),
        pytest.param("acme", "other", UnavailableError, id="another has its name, or too many write at once"),
    ],
)
async def test_a_request_that_cannot_be_told_now(name: str, uid: str, error: type[KeyturnError]) -> None:
    server, status_writer = cluster()

    with pytest.raises(error):
        await status_writer.status("billing", name, uid, FIRST)

    assert "status" not in server.objects[TOKEN_REQUEST]


async def test_a_status_that_is_refused() -> None:
    server, status_writer = cluster()
    server.responses[f"PATCH {TOKEN_REQUEST}"] = ApiResponse(403, {"message": "forbidden"})

    with pytest.raises(RefusedError, match="the status of billing/acme: forbidden"):
        await status_writer.status(*WHO, FIRST)


async def test_an_event_is_about_the_request() -> None:
    server, status_writer = cluster()
    await status_writer.event(REQUEST, Event("Warning", "Stalled", "x" * 2000))
    (posted,) = [body for path, body in server.objects.items() if path.startswith(EVENTS)]

    assert (posted["involvedObject"]["uid"], posted["reason"], posted["type"]) == (
        REQUEST.uid,
        "Stalled",
        "Warning",
    )
    assert len(posted["message"]) == 1024


async def test_an_event_that_is_refused_stops_nothing() -> None:
    server, status_writer = cluster()
    server.responses[f"POST {EVENTS}"] = ApiResponse(403, {"message": "forbidden"})

    await status_writer.event(REQUEST, Event("Normal", "Issued", "issued"))

    assert server.count("POST") == 1
