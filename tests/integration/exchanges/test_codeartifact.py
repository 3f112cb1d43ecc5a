from collections.abc import Mapping
from typing import Any

import pytest

from keyturn.core.pipeline_values import PackageEndpoint
from keyturn.exchanges.aws import Aws
from tests.support.clock import real_now
from tests.support.dependencies import HOUR, MINUTE
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, ACCOUNT_ROLE_ARN, DOMAIN, REPOSITORY
from tests.support.exchange_steps import fail_signed, run_signed
from tests.support.registry_client import basic, is_authorized

TOKEN, ENDPOINT = "codeartifact:GetAuthorizationToken", "codeartifact:GetRepositoryEndpoint"
PYPI_NPM = {"repositories": [{"repository": REPOSITORY, "formats": ["pypi", "npm"]}]}
ROLE: dict[str, Any] = {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN, "durationSeconds": 900}}
HOST = f"https://{DOMAIN}-{ACCOUNT}.d.codeartifact.us-east-1"


def artifact(**more: Any) -> dict[str, Any]:
    return {"codeArtifactGetAuthorizationToken": {"domain": DOMAIN} | more}


async def test_token_is_accepted_by_the_repository(client: Aws, emulator: Emulator) -> None:
    emulator.settings(registry_url=emulator.url)
    values = await run_signed(client, artifact(domainOwner=ACCOUNT, **PYPI_NPM))
    pypi, npm = values.package_endpoints
    token = values.current_token.value

    assert is_authorized(f"{pypi.url}simple/", basic("aws", token))
    assert is_authorized(f"{npm.url}left-pad", f"Bearer {token}")
    assert not is_authorized(f"{pypi.url}simple/", basic("aws", token[:-1]))


async def test_expired_token_is_rejected_by_the_repository(client: Aws, emulator: Emulator) -> None:
    emulator.settings(registry_url=emulator.url)
    values = await run_signed(client, artifact(**PYPI_NPM))
    emulator.settings(clock_offset_seconds=13 * 3600)

    assert not is_authorized(f"{values.package_endpoints[0].url}simple/", basic("aws", values.current_token.value))


@pytest.mark.parametrize(
    ("steps", "lifetime"),
    [
        pytest.param([artifact()], 12 * HOUR, id="by default"),
        pytest.param([artifact(durationSeconds=900)], 15 * MINUTE, id="from the spec"),
        pytest.param([ROLE, artifact(durationSeconds=3600)], HOUR, id="longer than the session"),
        pytest.param([ROLE, artifact(durationSeconds=0)], 15 * MINUTE, id="as long as the session"),
    ],
)
async def test_token_lifetime(steps: list[dict[str, Any]], lifetime: Any, client: Aws, emulator: Emulator) -> None:
    values = await run_signed(client, *steps)

    assert values.current_token.expires_at
    assert abs(values.current_token.expires_at - real_now() - lifetime) < MINUTE


async def test_duration_zero_requires_role_credentials(client: Aws, emulator: Emulator) -> None:
    error = await fail_signed(client, artifact(durationSeconds=0))

    assert (error.reason, "only with the credentials of a role" in error.message) == ("InvalidSpec", True)


async def test_repeated_format_yields_one_endpoint(client: Aws, emulator: Emulator) -> None:
    repeated = {"repositories": [{"repository": REPOSITORY, "formats": ["npm", "npm"]}]}

    assert [one.format for one in (await run_signed(client, artifact(**repeated))).package_endpoints] == ["npm"]


async def test_endpoint_parameters(client: Aws, emulator: Emulator) -> None:
    dual_stack = {"repositories": [{"repository": "other", "formats": ["maven"], "endpointType": "dualstack"}]}

    assert (await run_signed(client, artifact(**PYPI_NPM))).package_endpoints == (
        PackageEndpoint("pypi", REPOSITORY, f"{HOST}.amazonaws.com/pypi/{REPOSITORY}/"),
        PackageEndpoint("npm", REPOSITORY, f"{HOST}.amazonaws.com/npm/{REPOSITORY}/"),
    )
    assert (await run_signed(client, artifact(**dual_stack))).package_endpoints == (
        PackageEndpoint("maven", "other", f"{HOST}.on.aws/maven/other/"),
    )


@pytest.mark.parametrize(
    ("owner", "received"),
    [
        pytest.param({"domainOwner": ACCOUNT}, 2, id="of a named owner: once"),
        pytest.param({}, 6, id="without an owner: each time"),
    ],
)
async def test_endpoints_are_cached_if_the_owner_is_known(
    owner: dict[str, Any], received: int, client: Aws, emulator: Emulator
) -> None:
    values = await run_signed(client, artifact(**owner, **PYPI_NPM), times=3)

    assert (emulator.calls(TOKEN), emulator.calls(ENDPOINT)) == (3, received)
    assert len(values.package_endpoints) == 2


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"domain": "not-there"}, id="a domain"),
        pytest.param({"domainOwner": "444455556666"}, id="an owner"),
        pytest.param({"repositories": [{"repository": "not-there", "formats": ["npm"]}]}, id="a repository"),
    ],
)
async def test_missing_domain_owner_or_repository_is_invalid_spec(
    more: Mapping[str, Any], client: Aws, emulator: Emulator
) -> None:
    error = await fail_signed(client, artifact(**more))

    assert (error.reason, "check that the domain" in error.message) == ("InvalidSpec", True)


@pytest.mark.parametrize("operation", [TOKEN, ENDPOINT])
async def test_refusal_names_operation_and_permission(operation: str, client: Aws, emulator: Emulator) -> None:
    emulator.fault(operation, code="AccessDeniedException", status=403, message="planted")
    error = await fail_signed(client, artifact(**PYPI_NPM))

    assert error.message.startswith(f"CodeArtifact {operation.partition(':')[2]} for ")
    assert ": AccessDeniedException; check" in error.message
    assert (operation in error.message, len(error.request_id), "planted" in error.message) == (True, 36, False)
