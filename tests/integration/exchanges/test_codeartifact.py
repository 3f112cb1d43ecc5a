import base64
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import pytest

from keyturn.core.errors import KeyturnError, ThrottledError
from keyturn.core.pipeline_values import Credentials, PackageEndpoint, PipelineValues
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.registry import exchange
from tests.support.clock import real_now
from tests.support.dependencies import HOUR, MINUTE, request
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, ACCOUNT_ROLE_ARN, DOMAIN, REPOSITORY, USER_KEY_ID, USER_SECRET_KEY
from tests.support.exchange_steps import context

USER = Credentials(USER_KEY_ID, USER_SECRET_KEY)
TOKEN, ENDPOINT = "codeartifact:GetAuthorizationToken", "codeartifact:GetRepositoryEndpoint"
PYPI_NPM = {"repositories": [{"repository": REPOSITORY, "formats": ["pypi", "npm"]}]}
ROLE: dict[str, Any] = {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN, "durationSeconds": 900}}
HOST = f"https://{DOMAIN}-{ACCOUNT}.d.codeartifact.us-east-1"


def artifact(**more: Any) -> dict[str, Any]:
    return {"codeArtifactGetAuthorizationToken": {"domain": DOMAIN} | more}


async def taken(client: Aws, *steps: dict[str, Any], times: int = 1, keys: Credentials = USER) -> PipelineValues:
    """Take the steps one after another, and all of them so many times."""
    wanted = request(source={"credentials": {"secretRef": {"name": "base"}}}, exchanges=list(steps))
    outside = context(client)
    for _ in range(times):
        held = PipelineValues(credentials=keys)
        for one in wanted.spec.exchanges:
            held = await exchange(outside, wanted, one, held)
    return held


async def refused(client: Aws, *steps: dict[str, Any], keys: Credentials = USER) -> KeyturnError:
    with pytest.raises(KeyturnError) as raised:
        await taken(client, *steps, keys=keys)
    return raised.value


def opens(url: str, authorization: str) -> bool:
    """Whether a registry lets one in."""
    asked = urllib.request.Request(url, headers={"Authorization": authorization})  # noqa: S310 - our own server
    try:
        with urllib.request.urlopen(asked) as answer:  # noqa: S310 - our own server
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        if error.code == 401:
            return False
        raise


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def test_the_token_opens_the_repository(client: Aws, emulator: Emulator) -> None:
    emulator.settings(registry_url=emulator.url)
    held = await taken(client, artifact(domainOwner=ACCOUNT, **PYPI_NPM))
    pypi, npm = held.package_endpoints
    token = held.newest_token.value

    assert opens(f"{pypi.url}simple/", basic("aws", token))
    assert opens(f"{npm.url}left-pad", f"Bearer {token}")
    assert not opens(f"{pypi.url}simple/", basic("aws", token[:-1]))


async def test_a_token_that_is_over_opens_nothing(client: Aws, emulator: Emulator) -> None:
    emulator.settings(registry_url=emulator.url)
    emulator.fault(TOKEN, expired=True)
    held = await taken(client, artifact(**PYPI_NPM))

    assert not opens(f"{held.package_endpoints[0].url}simple/", basic("aws", held.newest_token.value))


@pytest.mark.parametrize(
    ("steps", "lifetime"),
    [
        pytest.param([artifact()], 12 * HOUR, id="by default"),
        pytest.param([artifact(durationSeconds=900)], 15 * MINUTE, id="asked for"),
        pytest.param([ROLE, artifact(durationSeconds=3600)], HOUR, id="longer than the session"),
        pytest.param([ROLE, artifact(durationSeconds=0)], 15 * MINUTE, id="as long as the session"),
    ],
)
async def test_the_lifetime(steps: list[dict[str, Any]], lifetime: Any, client: Aws, emulator: Emulator) -> None:
    held = await taken(client, *steps)

    assert held.newest_token.expires_at
    assert abs(held.newest_token.expires_at - real_now() - lifetime) < MINUTE


async def test_the_session_of_a_user_without_end(client: Aws, emulator: Emulator) -> None:
    error = await refused(client, artifact(durationSeconds=0))

    assert (error.reason, "only for credentials of a role" in error.message) == ("InvalidSpec", True)


async def test_a_kind_that_is_named_twice_is_one_endpoint(client: Aws, emulator: Emulator) -> None:
    twice = {"repositories": [{"repository": REPOSITORY, "formats": ["npm", "npm"]}]}

    assert [one.format for one in (await taken(client, artifact(**twice))).package_endpoints] == ["npm"]


async def test_endpoints(client: Aws, emulator: Emulator) -> None:
    dual = {"repositories": [{"repository": "other", "formats": ["maven"], "endpointType": "dualstack"}]}

    assert (await taken(client, artifact(**PYPI_NPM))).package_endpoints == (
        PackageEndpoint("pypi", REPOSITORY, f"{HOST}.amazonaws.com/pypi/{REPOSITORY}/"),
        PackageEndpoint("npm", REPOSITORY, f"{HOST}.amazonaws.com/npm/{REPOSITORY}/"),
    )
    assert (await taken(client, artifact(**dual))).package_endpoints == (
        PackageEndpoint("maven", "other", f"{HOST}.on.aws/maven/other/"),
    )


@pytest.mark.parametrize(
    ("owner", "asked"),
    [
        pytest.param({"domainOwner": ACCOUNT}, 2, id="of a named owner: once"),
        pytest.param({}, 6, id="of whoever asks: each time"),
    ],
)
async def test_endpoints_are_remembered(owner: dict[str, Any], asked: int, client: Aws, emulator: Emulator) -> None:
    held = await taken(client, artifact(**owner, **PYPI_NPM), times=3)

    assert (emulator.calls(TOKEN), emulator.calls(ENDPOINT)) == (3, asked)
    assert len(held.package_endpoints) == 2


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"domain": "not-there"}, id="a domain"),
        pytest.param({"domainOwner": "444455556666"}, id="an owner"),
        pytest.param({"repositories": [{"repository": "not-there", "formats": ["npm"]}]}, id="a repository"),
    ],
)
async def test_what_is_not_there(more: Mapping[str, Any], client: Aws, emulator: Emulator) -> None:
    error = await refused(client, artifact(**more))

    assert (error.reason, "such a domain" in error.message) == ("InvalidSpec", True)


async def test_wrong_keys(client: Aws, emulator: Emulator) -> None:
    unknown = await refused(client, artifact(), keys=Credentials("AKIANOTTHERE", "key"))
    wrong = await refused(client, artifact(), keys=Credentials(USER_KEY_ID, "wrong"))

    assert (unknown.reason, wrong.reason) == ("SourceInvalid", "SourceInvalid")


@pytest.mark.parametrize("operation", [TOKEN, ENDPOINT])
@pytest.mark.parametrize(
    ("fault", "reason", "says"),
    [
        pytest.param({"code": "AccessDeniedException", "status": 403}, "AccessDenied", "may the", id="denied"),
        pytest.param({"code": "ExpiredTokenException", "status": 403}, "SourceExpired", "", id="expired"),
        pytest.param({"code": "InternalServerException", "status": 500}, "Unavailable", "", id="broken"),
        pytest.param({"code": "ResourceNotFoundException", "status": 404}, "InvalidSpec", "", id="not there"),
        pytest.param({"code": "ValidationException"}, "InvalidSpec", "", id="invalid"),
    ],
)
async def test_each_error(
    operation: str, fault: dict[str, Any], reason: str, says: str, client: Aws, emulator: Emulator
) -> None:
    emulator.fault(operation, times=None, message="planted", **fault)
    error = await refused(client, artifact(**PYPI_NPM))

    assert (error.reason, len(error.request_id)) == (reason, 36)
    assert error.message.startswith(f"CodeArtifact {operation.partition(':')[2]}: {fault['code']}")
    assert says in error.message
    assert "planted" not in error.message


async def test_the_permission_that_is_forgotten_is_named(client: Aws, emulator: Emulator) -> None:
    emulator.fault(TOKEN, code="AccessDeniedException", status=403)

    assert "sts:GetServiceBearerToken" in (await refused(client, artifact())).message


@pytest.mark.parametrize(("operation", "says"), [(TOKEN, "durationSeconds"), (ENDPOINT, "format")])
async def test_what_is_invalid_is_named(operation: str, says: str, client: Aws, emulator: Emulator) -> None:
    emulator.fault(operation, code="ValidationException")

    assert says in (await refused(client, artifact(**PYPI_NPM))).message


async def test_a_throttle_says_how_long(client: Aws, emulator: Emulator) -> None:
    emulator.fault(TOKEN, code="ThrottlingException", status=429, times=None, headers={"Retry-After": "7"})
    error = await refused(client, artifact())

    assert isinstance(error, ThrottledError)
    assert error.retry_after.total_seconds() == 7
