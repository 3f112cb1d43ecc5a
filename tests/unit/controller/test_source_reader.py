import base64
from contextlib import nullcontext
from typing import Any

import pytest

from keyturn.api.source import ConfigMapKeyRef, SecretKeyRef
from keyturn.controller.api_client import ApiResponse
from keyturn.controller.source_reader import read_source, read_value
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import Credentials, SourceValues
from tests.support.api_server import ApiServer
from tests.support.dependencies import request
from tests.unit.controller.test_secret_store import SECRETS

KEYS = {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "planted/key+"}
TOKEN_WAY = {"token": {"secretKeyRef": {"name": "license", "key": "license_token"}}}
SESSION: list[dict[str, Any]] = [{"getSessionToken": {}}]


def keys_way(name: str = "base") -> dict[str, Any]:
    return {"credentials": {"secretRef": {"name": name}}}


def server(**secrets: dict[str, str | bytes]) -> ApiServer:
    """A cluster with these Secrets."""
    made = ApiServer()
    for name, data in secrets.items():
        encoded = {
            key: base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()
            for key, value in data.items()
        }
        made.put(f"{SECRETS}/{name}", data=encoded)
    return made


async def refusal(made: ApiServer) -> RefusedError:
    with pytest.raises(RefusedError) as refused:
        await read_source(made, request(source=keys_way(), exchanges=SESSION))
    return refused.value


@pytest.mark.parametrize(
    ("label", "says"),
    [
        pytest.param({}, "has no label keyturn.dev/source", id="none"),
        pytest.param({"keyturn.dev/source": "false"}, "has no label keyturn.dev/source", id="false"),
        pytest.param({"app.kubernetes.io/managed-by": "keyturn"}, "has no label", id="of a Secret of ours"),
        pytest.param({"keyturn.dev/source": "true"}, "", id="true"),
    ],
)
async def test_where_secrets_must_be_labelled(label: dict[str, str], says: str) -> None:
    made = server(license={"license_token": "t"})
    made.put(f"{SECRETS}/license", metadata={"labels": label})
    ref = SecretKeyRef(name="license", key="license_token")

    for reading in (
        read_source(made, request(), require_label=True),
        read_value(made, "billing", ref, require_label=True),
    ):
        with pytest.raises(RefusedError, match=says) if says else nullcontext():
            await reading
    assert await read_value(made, "billing", ref) == "t"


async def test_a_token() -> None:
    assert await read_source(server(license={"license_token": '"token"\n'}), request()) == SourceValues("token")


@pytest.mark.parametrize(
    ("data", "credentials"),
    [
        pytest.param(KEYS, Credentials("AKIA1", "planted/key+"), id="of a user"),
        pytest.param(
            KEYS | {"AWS_SESSION_TOKEN": "session=="},
            Credentials("AKIA1", "planted/key+", "session=="),
            id="of a session",
        ),
        pytest.param(KEYS | {"AWS_SESSION_TOKEN": ""}, Credentials("AKIA1", "planted/key+"), id="an empty session"),
        pytest.param(
            {name: f" {value}\n" for name, value in KEYS.items()},
            Credentials("AKIA1", "planted/key+"),
            id="with white space",
        ),
        pytest.param(KEYS | {"keystore": b"\xff\xfe"}, Credentials("AKIA1", "planted/key+"), id="beside a binary"),
    ],
)
async def test_credentials(data: dict[str, str | bytes], credentials: Credentials) -> None:
    wanted = request(source=keys_way(), exchanges=SESSION)

    assert await read_source(server(base=data), wanted) == SourceValues(None, credentials)


async def test_both_are_read_from_one_secret_at_once() -> None:
    made = server(license={**KEYS, "license_token": "token"})
    found = await read_source(made, request(source=TOKEN_WAY | keys_way("license")))

    assert found == SourceValues("token", Credentials("AKIA1", "planted/key+"))
    assert made.asked == [f"GET {SECRETS}/license"]


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        pytest.param(None, "SourceNotFound", "Secret base does not exist", id="no Secret"),
        pytest.param({}, "SourceNotFound", "has no key AWS_ACCESS_KEY_ID", id="no data"),
        pytest.param({"AWS_ACCESS_KEY_ID": "x"}, "SourceNotFound", "has no key AWS_SECRET_ACCESS_KEY", id="half"),
        pytest.param(KEYS | {"AWS_ACCESS_KEY_ID": ""}, "SourceNotFound", "AWS_ACCESS_KEY_ID", id="an empty key id"),
        pytest.param(KEYS | {"AWS_SECRET_ACCESS_KEY": b"\xff"}, "SourceInvalid", "is not text", id="bytes"),
        pytest.param(KEYS | {"AWS_SESSION_TOKEN": "a b"}, "SourceInvalid", "AWS_SESSION_TOKEN is", id="a space"),
    ],
)
async def test_credentials_that_cannot_be_read(data: dict[str, str | bytes] | None, reason: str, says: str) -> None:
    error = await refusal(server() if data is None else server(base=data))

    assert error.reason == reason
    assert says in error.message
    assert "planted" not in error.message


async def test_a_secret_that_may_not_be_read() -> None:
    made = server(base=dict(KEYS))
    made.responses[f"GET {SECRETS}/base"] = ApiResponse(403, {"message": "secrets is forbidden"})
    error = await refusal(made)

    assert (error.reason, error.message) == ("SourceNotFound", "Secret base may not be read: secrets is forbidden")


async def test_a_value_of_a_steps_own() -> None:
    made = server(client={"secret": " s3cr et\n"})

    assert await read_value(made, "billing", SecretKeyRef(name="client", key="secret")) == "s3cr et"


async def test_a_value_that_is_not_there() -> None:
    with pytest.raises(RefusedError, match="Secret client has no key other") as refused:
        await read_value(server(client={"secret": "x"}), "billing", SecretKeyRef(name="client", key="other"))

    assert refused.value.reason == "SourceNotFound"


CODE = {
    "identityCenterCreateToken": {
        "clientId": "arn:aws:sso::111122223333:application/ssoins-1/apl-1",
        "grantType": "authorization_code",
        "codeFrom": {"secretKeyRef": {"name": "sign-in", "key": "code"}},
        "redirectUri": "http://127.0.0.1/callback",
    }
}


async def test_what_works_only_once_is_read_with_the_source() -> None:
    made = ApiServer()
    code = {"code": base64.b64encode(b"the-code\n").decode()}
    made.put(f"{SECRETS}/base", data={key: base64.b64encode(value.encode()).decode() for key, value in KEYS.items()})
    made.put(f"{SECRETS}/sign-in", data=code)
    found = await read_source(made, request(source=keys_way(), exchanges=[CODE]))

    assert (found.proof, found.credentials is not None) == ("the-code", True)


async def test_a_code_that_is_not_there() -> None:
    with pytest.raises(RefusedError) as refused:
        await read_source(server(base={**KEYS}), request(source=keys_way(), exchanges=[CODE]))

    assert (refused.value.reason, refused.value.message) == ("SourceNotFound", "Secret sign-in does not exist")


async def test_nothing_to_start_from_reads_nothing() -> None:
    step = {"tokenUrl": "https://issuer.example", "grantType": "client_credentials", "clientId": "acme",
            "clientSecretFrom": {"secretKeyRef": {"name": "client", "key": "secret"}}}  # fmt: skip

    assert await read_source(server(), request(source={}, exchanges=[{"oauthToken": step}])) == SourceValues()


IN_CONFIG_MAP = ConfigMapKeyRef(name="ca", key="ca.crt")


async def test_a_value_of_a_config_map() -> None:
    made = ApiServer()
    made.put(f"{SECRETS.replace('secrets', 'configmaps')}/ca", data={"ca.crt": "PEM"})

    assert await read_value(made, "billing", IN_CONFIG_MAP) == "PEM"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(None, "ConfigMap ca does not exist", id="no ConfigMap"),
        pytest.param({}, "ConfigMap ca has no key ca.crt, or an empty one", id="no key"),
        pytest.param({"ca.crt": ""}, "ConfigMap ca has no key ca.crt, or an empty one", id="an empty key"),
    ],
)
async def test_a_config_map_without_the_value(data: dict[str, str] | None, message: str) -> None:
    made = ApiServer()
    if data is not None:
        made.put(f"{SECRETS.replace('secrets', 'configmaps')}/ca", data=data)
    with pytest.raises(RefusedError) as refused:
        await read_value(made, "billing", IN_CONFIG_MAP)

    assert (refused.value.reason, refused.value.message) == ("SourceNotFound", message)
