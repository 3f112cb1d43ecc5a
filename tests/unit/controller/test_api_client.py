import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient as KubernetesClient
from kubernetes.aio.client import Configuration

from keyturn.controller.api_client import APPLY, MERGE, SYSTEM, ApiClient, ApiResponse, refusal
from keyturn.core.errors import BeingDeletedError, LeaseLostError, RefusedError, UnavailableError
from keyturn.core.service_health import ServiceHealth
from tests.support import tls
from tests.support.api_endpoints import served


class Answers:
    """Answers with these statuses in turn, the last for ever, and notes the requests."""

    def __init__(self, *statuses: int, text: str = "{}") -> None:
        self._statuses = list(statuses)
        self._text = text
        self.requests: list[tuple[str, str, str]] = []
        self.headers: list[dict[str, str]] = []

    async def response(self, request: web.Request) -> web.Response:
        self.requests.append((request.method, str(request.rel_url), await request.text()))
        self.headers.append(dict(request.headers))
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        return web.Response(status=status, text=self._text)


async def test_a_request_is_made_as_it_is_asked_for() -> None:
    responses = Answers(200, text='{"kind": "Secret"}')
    async with served(responses.response, token="planted") as api:
        response = await api.request("PATCH", "/a", {"b": 1}, kind=APPLY, query={"force": "true"}, accept="x/y")

    assert (response.status, response.body) == (200, {"kind": "Secret"})
    assert responses.requests == [("PATCH", "/a?force=true", '{"b":1}')]
    assert responses.headers[0]["Authorization"] == "Bearer planted"
    assert (responses.headers[0]["Content-Type"], responses.headers[0]["Accept"]) == (APPLY, "x/y")


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
async def test_a_refusal_is_an_answer(status: int) -> None:
    responses = Answers(status, text='{"message": "no"}')
    async with served(responses.response) as api:
        response = await api.request("GET", "/a")

    assert (response.status, response.message, response.refused, len(responses.requests)) == (
        status,
        "no",
        True,
        1,
    )
    assert response.found is (status != 404)


@pytest.mark.parametrize("status", [401, 429, 500, 503])
async def test_what_passes_is_tried_again(status: int) -> None:
    responses = Answers(status, 200)
    async with served(responses.response) as api:
        response = await api.request("GET", "/a")

    assert (response.status, len(responses.requests)) == (200, 2)


async def test_after_three_tries_it_is_unavailable() -> None:
    responses = Answers(503)
    async with served(responses.response) as api:
        with pytest.raises(UnavailableError, match="HTTP 503") as raised:
            await api.request("GET", "/a")

    assert (raised.value.reason, len(responses.requests)) == ("Unavailable", 3)


async def test_a_certificate_that_is_not_trusted_is_told_of() -> None:
    async def response(_: web.Request) -> web.Response:
        raise AssertionError

    async with (
        tls.served(response) as server,
        KubernetesClient(Configuration(host=f"https://127.0.0.1:{server.port}")) as client,
    ):
        with pytest.raises(UnavailableError, match="its certificate: unable to get local issuer") as raised:
            await ApiClient(client, ServiceHealth()).request("GET", "/a")

    assert raised.value.reason == "Unreachable"


async def test_no_answer_is_unreachable() -> None:
    async def cut(request: web.Request) -> web.Response:
        if request.transport:
            request.transport.abort()
        return web.Response()

    async with served(cut) as api:
        with pytest.raises(UnavailableError) as raised:
            await api.request("GET", "/a")

    assert raised.value.reason == "Unreachable"


async def test_an_error_page_that_is_not_json() -> None:
    async with served(Answers(403, text="<html>").response) as api:
        response = await api.request("GET", "/a")

    assert "check proxies between Keyturn and the API server" in response.message


async def test_without_the_lease_nothing_is_written() -> None:
    responses = Answers(200)
    async with served(responses.response) as api:
        api.may_write = lambda: False
        await api.request("GET", "/a")
        with pytest.raises(LeaseLostError):
            await api.request("PATCH", "/a", {})

    assert [method for method, _, _ in responses.requests] == ["GET"]


async def test_without_the_lease_a_token_is_saved_all_the_same() -> None:
    responses = Answers(503, 200)
    async with served(responses.response) as api:
        api.may_write = lambda: False
        await api.save("PATCH", "/a", {"b": 1}, query={"fieldManager": "x"})

    assert responses.requests == [("PATCH", "/a?fieldManager=x", '{"b":1}')] * 2
    assert responses.headers[0]["Content-Type"] == MERGE


async def test_an_outage_of_the_api_server_is_told_when_it_is_over() -> None:
    service_health, over = ServiceHealth(), list[str]()
    service_health.on_recovery(over.append)
    async with served(Answers(503, 503, 503, 200).response, service_health=service_health) as api:
        with pytest.raises(UnavailableError) as raised:
            await api.request("GET", "/a")
        await api.request("GET", "/a")

    assert (raised.value.service, over) == (SYSTEM, [SYSTEM])


async def test_a_watch_is_read_line_by_line() -> None:
    async with served(Answers(200, text="one\ntwo\n").response) as api:
        assert [line async for line in api.watch("/a", {})] == [b"one\n", b"two\n"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param({"message": "exceeded quota"}, "write it: exceeded quota", id="the API server's own words"),
        pytest.param({}, "write it: HTTP 403", id="no words"),
        pytest.param(
            {"message": 'is "planted-secret" a secret'}, 'write it: is "..." a secret', id="a secret in its words"
        ),
        pytest.param({"message": "x" * 1000}, "x" * 500, id="too many words"),
    ],
)
def test_refusal(body: dict[str, str], says: str) -> None:
    error = refusal(ApiResponse(403, body), "it", {"token": "planted-secret", "empty": "", "short": "w"})

    assert isinstance(error, RefusedError)
    assert (error.reason, error.message.endswith(says)) == ("WriteDenied", True)


def test_a_namespace_that_is_terminating_is_left() -> None:
    body = {"message": "no", "details": {"causes": [{"reason": "NamespaceTerminating"}]}}

    assert isinstance(refusal(ApiResponse(403, body), "it", {}), BeingDeletedError)


def test_an_answer_does_not_show_its_body() -> None:
    assert "planted" not in repr(ApiResponse(200, {"data": "planted"}))
