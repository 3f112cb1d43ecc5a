import asyncio
import base64
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from aiohttp import web
from aiohttp.client_proto import ResponseHandler
from kubernetes.aio.client import ApiClient as KubernetesClient
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException

from keyturn.controller import api_client
from keyturn.controller.api_client import APPLY, JSON, MERGE, SYSTEM, ApiClient, ApiResponse, refusal, secrets_path
from keyturn.controller.object_list import PageSize, list_pages
from keyturn.controller.response_body import select
from keyturn.core.errors import BeingDeletedError, LeaseLostError, RefusedError, UnavailableError
from keyturn.core.proxies import canonical_host
from keyturn.core.service_health import ServiceHealth
from keyturn.exchanges.cpu_limiter import CpuLimiter
from tests.support import tls
from tests.support.api_endpoints import FOUND, SECRET, served
from tests.support.garbage import counted_objects
from tests.support.memory_limiter import RecordingMemoryLimiter

T = TypeVar("T")
LISTED = json.dumps(
    {
        "apiVersion": "meta.k8s.io/v1",
        "kind": "PartialObjectMetadataList",
        "metadata": {"resourceVersion": "1"},
        "items": [],
    }
)
REFUSED = '{"kind": "Status", "apiVersion": "v1", "message": "no"}'


class Responses:
    """Returns these statuses in turn, repeats the last one, and records the requests."""

    def __init__(self, *statuses: int, text: str = FOUND) -> None:
        self._statuses = list(statuses)
        self._text = text
        self.requests: list[tuple[str, str, str]] = []
        self.headers: list[dict[str, str]] = []

    async def response(self, request: web.Request) -> web.Response:
        self.requests.append((request.method, str(request.rel_url), await request.text()))
        self.headers.append(dict(request.headers))
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        return web.Response(status=status, body=self._text.encode(errors="surrogateescape"))


@pytest.mark.parametrize(
    ("place", "path"),
    [
        pytest.param(("",), "/api/v1/secrets", id="all namespaces"),
        pytest.param(("a",), "/api/v1/namespaces/a/secrets", id="a namespace"),
        pytest.param(("a", "b"), "/api/v1/namespaces/a/secrets/b", id="a Secret"),
    ],
)
def test_secrets_path_covers_a_secret_or_many(place: tuple[str, ...], path: str) -> None:
    assert secrets_path(*place) == path


async def test_request_sends_body_query_and_headers() -> None:
    responses = Responses(200)
    async with served(responses.response, token="planted") as api:
        response = await api.request("PATCH", SECRET, {"b": 1}, kind=APPLY, query={"force": "true"}, accept=JSON)

    assert (response.status, response.body["metadata"]) == (200, json.loads(FOUND)["metadata"])
    assert responses.requests == [("PATCH", f"{SECRET}?force=true", '{"b":1}')]
    assert responses.headers[0]["Authorization"] == "Bearer planted"
    assert (responses.headers[0]["Content-Type"], responses.headers[0]["Accept"]) == (APPLY, JSON)


async def test_every_request_goes_through_the_proxy() -> None:
    responses = Responses(200)
    async with served(responses.response, as_proxy=True) as api:
        await api.request("GET", SECRET)
        assert [line async for line in api.watch("/api/v1/secrets", {"watch": "true"})] == []
        with pytest.raises(UnavailableError, match="is not the SelfSubjectReview"):
            await api.user_of("token")

    assert [headers["Host"] for headers in responses.headers] == ["cluster.test"] * 3


class RecordingLimiter(CpuLimiter):
    """Records the namespaces that had a computation."""

    def __init__(self) -> None:
        super().__init__()
        self.namespaces: list[str] = []

    async def run(self, namespace: str, compute: Callable[[], T]) -> T:
        self.namespaces.append(namespace)
        return await super().run(namespace, compute)


@pytest.mark.parametrize(("size", "namespaces"), [(1000, []), (200_000, ["billing"])])
async def test_large_response_is_decoded_alone(size: int, namespaces: list[str]) -> None:
    limiter, memory_limiter, data = RecordingLimiter(), RecordingMemoryLimiter(), {"token": "x" * size}
    responses = Responses(200, text=json.dumps(json.loads(FOUND) | {"data": data}))
    async with served(responses.response, cpu_limiter=limiter, memory_limiter=memory_limiter) as api:
        response = await api.request("GET", SECRET)

    assert select(response.body["data"], ["token"]) == data
    assert (limiter.namespaces, memory_limiter.granted) == (namespaces, namespaces)


async def test_large_page_waits_for_no_tenant() -> None:
    """If the Leases of the scope are not listed in time, nothing is renewed in any namespace."""
    body = json.loads(LISTED) | {"items": ["x" * 200_000]}
    limiter, memory_limiter = RecordingLimiter(), RecordingMemoryLimiter()
    response = Responses(200, text=json.dumps(body)).response
    async with served(response, cpu_limiter=limiter, memory_limiter=memory_limiter) as api:
        page = await api.list_page("/api/v1/secrets", {})

    assert page
    assert len(page.items) == 1
    assert (limiter.namespaces, memory_limiter.granted) == ([], [])


async def test_few_large_pages_are_in_memory_at_a_time() -> None:
    """A namespaced installation lists the objects of many namespaces at once."""
    body, begun, may_end = json.loads(LISTED) | {"items": ["x" * 200_000]}, 0, asyncio.Event()

    async def read_list(api: ApiClient, namespace: str) -> None:
        nonlocal begun
        async for _ in list_pages(api, secrets_path(namespace), "a=b", PageSize()):
            begun += 1
            await may_end.wait()

    async with served(Responses(200, text=json.dumps(body)).response) as api, asyncio.TaskGroup() as tasks:
        for number in range(10):
            tasks.create_task(read_list(api, str(number)))
        await asyncio.sleep(1)
        begun_at_once = begun
        may_end.set()

    assert (begun_at_once, begun) == (4, 10)


async def test_few_large_events_are_in_memory_at_a_time() -> None:
    responses, begun, may_end = Responses(200, text=f"small\n{'x' * 200_000}\n"), list[bytes](), asyncio.Event()

    async def watch(api: ApiClient, namespace: str) -> None:
        async for line in api.watch(secrets_path(namespace), {}):
            begun.append(line[:5])
            if line != b"small\n":
                await may_end.wait()

    async with served(responses.response) as api, asyncio.TaskGroup() as tasks:
        for number in range(10):
            tasks.create_task(watch(api, str(number)))
        await asyncio.sleep(1)
        begun_at_once = Counter(begun)
        may_end.set()

    assert begun_at_once == {b"small": 10, b"xxxxx": 4}
    assert Counter(begun) == {b"small": 10, b"xxxxx": 10}


@pytest.mark.parametrize(
    ("body", "namespaces"),
    [
        ({"data": {"token": "x" * 1000}}, []),
        ({"data": {"token": "x" * 200_000}}, ["billing"]),
        ({"metadata": {"annotations": {"example.com/note": "x" * 200_000}}}, ["billing"]),
    ],
)
async def test_large_manifest_is_encoded_alone(body: dict[str, Any], namespaces: list[str]) -> None:
    limiter, responses = RecordingLimiter(), Responses(200)
    async with served(responses.response, cpu_limiter=limiter) as api:
        await api.request("PATCH", SECRET, body, kind=APPLY)

    assert [json.loads(sent) for *_, sent in responses.requests] == [body]
    assert limiter.namespaces == namespaces


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
async def test_client_error_is_returned_without_retry(status: int) -> None:
    responses = Responses(status, text=REFUSED)
    async with served(responses.response) as api:
        response = await api.request("GET", SECRET)

    assert (response.status, response.message, response.is_error, len(responses.requests)) == (
        status,
        "no",
        True,
        1,
    )
    assert response.is_found is (status != 404)


@pytest.mark.parametrize("status", [401, 429, 500, 503])
async def test_temporary_error_is_retried(status: int) -> None:
    responses = Responses(status, 200)
    async with served(responses.response) as api:
        response = await api.request("GET", SECRET)

    assert (response.status, len(responses.requests)) == (200, 2)


@pytest.mark.parametrize(
    "send",
    [
        pytest.param(lambda api: api.request("PATCH", SECRET, {}), id="write that a webhook delays"),
        pytest.param(lambda api: api.list_page("/api/v1/secrets", {}), id="list of many objects"),
    ],
)
async def test_slow_response_is_awaited_longer_the_second_time(
    send: Callable[[ApiClient], Awaitable[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []

    async def respond_slowly(request: web.Request) -> web.Response:
        requests.append(request.method)
        await asyncio.sleep(0.3)
        return web.Response(text=FOUND if request.method == "PATCH" else LISTED)

    monkeypatch.setattr(api_client, "_TIMEOUT_SECONDS", 0.1)
    async with served(respond_slowly) as api:
        await send(api)

    assert len(requests) == 2


async def test_untrusted_certificate_is_reported() -> None:
    async def response(_: web.Request) -> web.Response:
        raise AssertionError

    async with (
        tls.served(response) as server,
        KubernetesClient(Configuration(host=f"https://127.0.0.1:{server.port}")) as client,
    ):
        with pytest.raises(UnavailableError, match="its certificate: unable to get local issuer") as raised:
            await ApiClient(client, ServiceHealth()).request("GET", SECRET)

    assert raised.value.reason == "Unreachable"


async def test_missing_response_raises_unreachable() -> None:
    async def cut(request: web.Request) -> web.Response:
        if request.transport:
            request.transport.abort()
        return web.Response()

    async with served(cut) as api:
        with pytest.raises(UnavailableError) as raised:
            await api.request("GET", SECRET)

    assert raised.value.reason == "Unreachable"


@pytest.mark.parametrize("status", [200, 404])
async def test_page_of_a_proxy_is_unavailable(status: int) -> None:
    responses = Responses(status, text="<html>")
    async with served(responses.response) as api:
        with pytest.raises(UnavailableError, match="check proxies between Keyturn and the API server"):
            await api.save("PATCH", SECRET, {}, query={})

    assert len(responses.requests) == 3


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(status: int) -> None:
    """After a 303, a GET of the old Secret would look like the save of a new token."""
    methods: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        methods.append(request.method)
        if request.method == "GET":
            return web.Response(text=FOUND)
        return web.Response(status=status, headers={"Location": request.path})

    async with served(redirect) as api:
        with pytest.raises(UnavailableError, match="is not the Status"):
            await api.save("PATCH", SECRET, {}, query={})

    assert methods == ["PATCH"] * 3


async def test_body_that_is_too_large_is_unavailable() -> None:
    async with served(Responses(200, text=FOUND.replace("acme", "a" * 11_000_000)).response) as api:
        with pytest.raises(UnavailableError, match="more than 10485760 bytes"):
            await api.request("GET", SECRET)


async def test_request_without_the_lease_writes_nothing() -> None:
    responses = Responses(200)
    async with served(responses.response) as api:
        api.may_write = lambda _: False
        await api.request("GET", SECRET)
        with pytest.raises(LeaseLostError):
            await api.request("PATCH", SECRET, {})

    assert [method for method, _, _ in responses.requests] == ["GET"]


async def test_save_without_the_lease_still_writes() -> None:
    responses = Responses(503, 200)
    async with served(responses.response) as api:
        api.may_write = lambda _: False
        await api.save("PATCH", SECRET, {"b": 1}, query={"fieldManager": "x"})

    assert responses.requests == [("PATCH", f"{SECRET}?fieldManager=x", '{"b":1}')] * 2
    assert responses.headers[0]["Content-Type"] == MERGE


async def test_recovery_after_three_failed_attempts_is_reported() -> None:
    service_health, recovered = ServiceHealth(), list[str]()
    service_health.on_recovery(recovered.append)
    async with served(Responses(503, 503, 503, 200).response, service_health=service_health) as api:
        with pytest.raises(UnavailableError, match="HTTP 503") as raised:
            await api.request("GET", SECRET)
        await api.request("GET", SECRET)

    assert (raised.value.reason, raised.value.service, recovered) == ("Unavailable", SYSTEM, [SYSTEM])


def test_no_issuer_has_the_name_of_the_api_server() -> None:
    assert canonical_host(SYSTEM) is None


async def test_watch_yields_lines() -> None:
    async with served(Responses(200, text="one\ntwo\n").response) as api:
        assert [line async for line in api.watch(SECRET, {})] == [b"one\n", b"two\n"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({"message": "exceeded quota"}, "write it: exceeded quota", id="message"),
        pytest.param({}, "write it: HTTP 403", id="no message"),
        pytest.param(
            {"message": 'is "planted-secret" a secret'}, 'write it: is "..." a secret', id="message with a secret"
        ),
        pytest.param({"message": "x" * 1000}, "x" * 500, id="long message"),
    ],
)
def test_refusal_contains_the_message_but_no_secret(body: dict[str, str], message: str) -> None:
    error = refusal(ApiResponse(403, body), "it", {"token": "planted-secret", "empty": "", "short": "w"})

    assert isinstance(error, RefusedError)
    assert (error.reason, error.message.endswith(message)) == ("WriteDenied", True)


def test_only_the_start_of_a_long_message_is_used() -> None:
    assert ApiResponse(500, {"message": "x" * 5_000}).message == "x" * 4096


def test_refusal_that_repeats_a_large_secret_contains_none_of_it() -> None:
    pieces = [f"planted-{number:06}" for number in range(70_000)]
    secret = "\n".join(pieces)
    messages = (
        f"no: {secret}",
        f"no: {secret.replace(chr(10), '')}",
        f"no {base64.b64encode(secret.encode()).decode()}",
    )
    refusals = [refusal(ApiResponse(403, {"message": text}), "it", {"key": secret}).args[0] for text in messages]

    assert "planted" not in "".join(refusals)
    assert [len(text) < 700 for text in refusals] == [True] * 3


def test_refusal_searches_the_message_for_few_pieces_of_a_secret() -> None:
    # They begin like a word in the message.
    secret = "\n".join(f"exceeded-{number:06}" for number in range(70_000))
    searches = 0

    def profile(_frame: object, event: str, function: object) -> None:
        nonlocal searches
        searches += event == "c_call" and getattr(function, "__name__", "") == "replace"

    sys.setprofile(profile)
    try:
        error = refusal(ApiResponse(403, {"message": "exceeded quota, exceeded-000001"}), "it", {"key": secret})
    finally:
        sys.setprofile(None)

    assert error.args[0].endswith("exceeded quota, ...")
    assert searches < 100


def test_refusal_in_terminating_namespace_is_a_deletion() -> None:
    body = {"message": "no", "details": {"causes": [{"reason": "NamespaceTerminating"}]}}

    assert isinstance(refusal(ApiResponse(403, body), "it", {}), BeingDeletedError)


def test_repr_of_a_response_hides_its_body() -> None:
    assert "planted" not in repr(ApiResponse(200, {"data": "planted"}))


async def test_unreadable_token_of_the_service_account_is_unavailable() -> None:
    def refresh(_: Configuration) -> None:
        raise ConfigException("Token file exists but empty.")

    configuration = Configuration(host="http://127.0.0.1:9")
    configuration.api_key["BearerToken"] = "planted"
    configuration.refresh_api_key_hook = refresh  # type: ignore[assignment]
    async with KubernetesClient(configuration) as client:
        with pytest.raises(UnavailableError, match="token of the service account"):
            await ApiClient(client, ServiceHealth()).request("GET", SECRET)


async def test_connection_with_a_broken_response_is_freed_at_once() -> None:
    async def respond_and_close(request: web.Request) -> web.Response:
        if request.transport:
            request.transport.write(b"garbage")
            request.transport.close()
        return web.Response()

    async with served(respond_and_close) as api:
        with counted_objects(ResponseHandler) as count:
            with pytest.raises(UnavailableError):
                await api.request("GET", SECRET)
            # The event loop may close the connection in one of its next iterations. The garbage collector is disabled.
            await asyncio.sleep(0.1)

            assert count() == 0
