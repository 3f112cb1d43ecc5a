import base64
import json
import tracemalloc
from contextlib import nullcontext
from typing import Any

import pytest
from aiohttp import web

from keyturn.api.source import ConfigMapKeyRef, SecretKeyRef
from keyturn.controller.api_client import ApiResponse
from keyturn.controller.source_reader import SourceReader, read_value
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import Credentials, SourceValues
from tests.support.api_endpoints import served
from tests.support.api_server import ApiServer
from tests.support.cases import cases
from tests.support.client_key_forms import PKCS12
from tests.support.dependencies import CODE, request
from tests.support.secret_store import SECRETS

KEYS = {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "planted/key+"}
TOKEN_SOURCE = {"token": {"secretKeyRef": {"name": "license", "key": "license_token"}}}
SECRET_REF = SecretKeyRef(name="client", key="secret")
CONFIG_MAP_REF = ConfigMapKeyRef(name="ca", key="ca.crt")
SESSION: list[dict[str, Any]] = [{"getSessionToken": {}}]


def keys_source(name: str = "base") -> dict[str, Any]:
    return {"credentials": {"secretRef": {"name": name}}}


def secret(name: str, data: dict[str, str]) -> dict[str, Any]:
    """Return a Secret as the API server does."""
    metadata = {"name": name, "namespace": "billing", "uid": f"{name}-1", "resourceVersion": "1"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def server(**secrets: dict[str, str | bytes]) -> ApiServer:
    api = ApiServer()
    for name, data in secrets.items():
        encoded = {
            key: base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()
            for key, value in data.items()
        }
        api.put(f"{SECRETS}/{name}", data=encoded)
    return api


async def refusal(api: ApiServer) -> RefusedError:
    with pytest.raises(RefusedError) as refused:
        await SourceReader(api).read(request(source=keys_source(), exchanges=SESSION))
    return refused.value


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param({}, "has no label keyturn.dev/source", id="no label"),
        pytest.param({"keyturn.dev/source": "false"}, "has no label keyturn.dev/source", id="label false"),
        pytest.param({"keyturn.dev/source": "true"}, "", id="label true"),
    ],
)
async def test_required_label_is_enforced(labels: dict[str, str], message: str) -> None:
    api = server(license={"license_token": "t"})
    api.put(f"{SECRETS}/license", metadata={"labels": labels})
    ref = SecretKeyRef(name="license", key="license_token")

    for read in (
        SourceReader(api, require_label=True).read(request()),
        read_value(api, "billing", ref, require_label=True),
    ):
        with pytest.raises(RefusedError, match=message) if message else nullcontext():
            await read
    assert await read_value(api, "billing", ref) == "t"


async def test_token_is_read_without_quotes_and_whitespace() -> None:
    assert await SourceReader(server(license={"license_token": '"token"\n'})).read(request()) == SourceValues("token")


@pytest.mark.parametrize(
    ("data", "credentials"),
    [
        pytest.param(KEYS, Credentials("AKIA1", "planted/key+"), id="user"),
        pytest.param(
            KEYS | {"AWS_SESSION_TOKEN": "session=="},
            Credentials("AKIA1", "planted/key+", "session=="),
            id="session",
        ),
        pytest.param(
            KEYS | {"AWS_SESSION_TOKEN": "s" * 32_768},
            Credentials("AKIA1", "planted/key+", "s" * 32_768),
            id="a long session",
        ),
        pytest.param(KEYS | {"AWS_SESSION_TOKEN": ""}, Credentials("AKIA1", "planted/key+"), id="empty session token"),
        pytest.param(
            {name: f" {value}\n" for name, value in KEYS.items()},
            Credentials("AKIA1", "planted/key+"),
            id="surrounding whitespace",
        ),
        pytest.param(
            KEYS | {"keystore": b"\xff\xfe"}, Credentials("AKIA1", "planted/key+"), id="beside a binary value"
        ),
    ],
)
async def test_credentials_are_read(data: dict[str, str | bytes], credentials: Credentials) -> None:
    token_request = request(source=keys_source(), exchanges=SESSION)

    assert await SourceReader(server(base=data)).read(token_request) == SourceValues(None, credentials)


async def test_large_source_is_not_kept_while_the_next_one_is_read() -> None:
    data = {
        "license": {"license_token": "dA=="} | {f"key-{number}": "" for number in range(50_000)},
        "base": {name: base64.b64encode(value.encode()).decode() for name, value in KEYS.items()},
    }
    bodies, memory = {name: json.dumps(secret(name, keys)).encode() for name, keys in data.items()}, dict[str, int]()

    async def response(http_request: web.Request) -> web.Response:
        name = http_request.path.rpartition("/")[2]
        memory[name], _ = tracemalloc.get_traced_memory()
        return web.Response(body=bodies[name], content_type="application/json")

    async with served(response) as api:
        tracemalloc.start()
        try:
            await SourceReader(api).read(request(source=TOKEN_SOURCE | keys_source()))
        finally:
            tracemalloc.stop()

    # All of its keys would take 9 MB.
    assert memory["base"] - memory["license"] < 10**6


async def test_token_and_keys_of_one_secret_are_one_read() -> None:
    api = server(license={**KEYS, "license_token": "token"})
    values = await SourceReader(api).read(request(source=TOKEN_SOURCE | keys_source("license")))

    assert values == SourceValues("token", Credentials("AKIA1", "planted/key+"))
    assert api.requests == [f"GET {SECRETS}/license"]


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        pytest.param(None, "SourceNotFound", "Secret base does not exist", id="no Secret"),
        pytest.param({}, "SourceNotFound", "has no key AWS_ACCESS_KEY_ID", id="no data"),
        pytest.param(
            {"AWS_ACCESS_KEY_ID": "x"}, "SourceNotFound", "has no key AWS_SECRET_ACCESS_KEY", id="secret key missing"
        ),
        pytest.param(KEYS | {"AWS_ACCESS_KEY_ID": ""}, "SourceKeyEmpty", "AWS_ACCESS_KEY_ID", id="an empty key id"),
        pytest.param(
            KEYS | {"AWS_SECRET_ACCESS_KEY": '"" \n'}, "SourceKeyEmpty", "AWS_SECRET_ACCESS_KEY", id="only quotes"
        ),
        pytest.param(KEYS | {"AWS_SECRET_ACCESS_KEY": b"\xff"}, "SourceInvalid", "is not text", id="binary value"),
        pytest.param(
            KEYS | {"AWS_SESSION_TOKEN": "a b"}, "SourceInvalid", "AWS_SESSION_TOKEN is", id="space in a value"
        ),
    ],
)
async def test_unreadable_credentials_are_refused(
    data: dict[str, str | bytes] | None, reason: str, message: str
) -> None:
    error = await refusal(server() if data is None else server(base=data))

    assert error.reason == reason
    assert message in error.message
    assert "planted" not in error.message


@cases("kind, ref", {"Secret": ("Secret", SECRET_REF), "ConfigMap": ("ConfigMap", CONFIG_MAP_REF)})
async def test_missing_right_is_named(kind: str, ref: SecretKeyRef | ConfigMapKeyRef) -> None:
    api, resource = server(), f"{kind.lower()}s"
    path = f"{SECRETS.replace('secrets', resource)}/{ref.name}"
    api.responses[f"GET {path}"] = ApiResponse(403, {"message": f"{resource} is forbidden"})
    with pytest.raises(RefusedError) as refused:
        await read_value(api, "billing", ref)

    assert refused.value.reason == "SourceForbidden"
    assert refused.value.message == (
        f"{kind} {ref.name} cannot be read: {resource} is forbidden; the operator needs the right to get {resource} in"
        " namespace billing; the chart grants it if rbac.create is set, only in watchNamespaces if that is set"
    )


async def test_value_of_an_exchange_is_stripped() -> None:
    api = server(client={"secret": " s3cr et\n"})

    assert await read_value(api, "billing", SECRET_REF) == "s3cr et"


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        ({"other": "x"}, "SourceNotFound", "Secret client has no key secret"),
        ({"secret": ""}, "SourceKeyEmpty", "key secret of Secret client is empty"),
        ({"secret": " \n"}, "SourceKeyEmpty", "key secret of Secret client is empty"),
        ({"secret": b"\xff"}, "SourceInvalid", "key secret of Secret client is not text"),
        (
            {"secret": PKCS12},
            "SourceInvalid",
            "key secret of Secret client is not text; it contains a PKCS #12 archive in binary form: convert it to PEM",
        ),
    ],
    ids=["no key", "an empty key", "white space", "binary value", "PKCS #12"],
)
async def test_unreadable_value_is_refused(data: dict[str, str | bytes], reason: str, message: str) -> None:
    with pytest.raises(RefusedError) as refused:
        await read_value(server(client=data), "billing", SECRET_REF)

    assert (refused.value.reason, refused.value.message) == (reason, message)


async def test_single_use_credential_is_read_with_the_source() -> None:
    api = server(base={**KEYS})
    api.put(f"{SECRETS}/sign-in", data={"code": base64.b64encode(b"the-code\n").decode()})
    values = await SourceReader(api).read(request(source=keys_source(), exchanges=[CODE]))

    assert (values.single_use_credential, values.credentials is not None) == ("the-code", True)


async def test_request_without_a_source_reads_nothing() -> None:
    step = {"tokenUrl": "https://issuer.example", "grantType": "client_credentials", "clientId": "acme",
            "clientSecretFrom": {"secretKeyRef": {"name": "client", "key": "secret"}}}  # fmt: skip

    assert await SourceReader(server()).read(request(source={}, exchanges=[{"oauthToken": step}])) == SourceValues()


async def test_value_is_read_from_a_config_map() -> None:
    api = ApiServer()
    api.put(f"{SECRETS.replace('secrets', 'configmaps')}/ca", data={"ca.crt": "PEM"})

    assert await read_value(api, "billing", CONFIG_MAP_REF) == "PEM"


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        pytest.param(None, "SourceNotFound", "ConfigMap ca does not exist", id="no ConfigMap"),
        pytest.param({}, "SourceNotFound", "ConfigMap ca has no key ca.crt", id="no key"),
        pytest.param({"ca.crt": ""}, "SourceKeyEmpty", "key ca.crt of ConfigMap ca is empty", id="an empty key"),
    ],
)
async def test_missing_value_in_a_config_map_is_refused(data: dict[str, str] | None, reason: str, message: str) -> None:
    api = ApiServer()
    if data is not None:
        api.put(f"{SECRETS.replace('secrets', 'configmaps')}/ca", data=data)
    with pytest.raises(RefusedError) as refused:
        await read_value(api, "billing", CONFIG_MAP_REF)

    assert (refused.value.reason, refused.value.message) == (reason, message)
