"""The endpoint of each operation, without a network: botocore chooses the host for each region."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from keyturn.api.exchanges.base import AwsExchangeSpec
from keyturn.api.exchanges.registry import EXCHANGES
from keyturn.core.errors import UnavailableError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.core.settings import AwsSettings
from keyturn.exchanges.aws import Aws
from tests.support.cases import cases
from tests.support.dependencies import request
from tests.support.exchange_steps import EXAMPLE_STEPS, TOKEN_AND_CREDENTIALS, aws, context, exchange

ENDPOINTS = {"sts": "https://vpce.example", "sts/eu-west-1": "https://eu.example"}
VALUES = PipelineValues(Token("token"), credentials=Credentials("AKIA1", "key"))
REPOSITORIES = [{"repository": "packages", "formats": ["npm"]}]
DOMAINS = {
    "us-east-1": "amazonaws.com",
    "eu-west-1": "amazonaws.com",
    "us-gov-west-1": "amazonaws.com",
    "cn-north-1": "amazonaws.com.cn",
}
UNSIGNED = {
    "licenseManagerGetAccessToken", "identityCenterGetRoleCredentials", "assumeRoleWithWebIdentity",
    "cognitoGetCredentials", "cognitoGetOpenIdToken",
}  # fmt: skip


Calls = list[tuple[str, bool]]


@contextmanager
def recording_client(settings: AwsSettings | None = None) -> Iterator[tuple[Aws, Calls]]:
    """A client that sends nothing, and a list of its calls: the URL, and whether the call is signed."""
    calls: Calls = []

    def stop(**event: Any) -> None:
        http_request = event["request"]
        calls.append((str(http_request.url).split("?", maxsplit=1)[0], "Authorization" in http_request.headers))
        raise EndpointConnectionError(endpoint_url=http_request.url)

    with closing(aws(settings)) as aws_client:
        aws_client._session._session.register("before-send", stop)
        yield aws_client, calls


async def first_call(client: tuple[Aws, Calls], operation: str, default_region: str, **fields: Any) -> tuple[str, bool]:
    """Run an exchange and return the URL of its first call, and whether the call is signed."""
    aws_client, calls = client
    calls.clear()
    token_request = request(
        source=TOKEN_AND_CREDENTIALS,
        region=default_region,
        exchanges=[{operation: EXAMPLE_STEPS[operation].fields | fields}],
    )
    with pytest.raises(UnavailableError):
        await exchange(context(aws_client), token_request, token_request.spec.exchanges[0], VALUES)
    return calls[0]


@pytest.fixture(scope="module")
def client() -> Iterator[tuple[Aws, Calls]]:
    with recording_client() as aws_client:
        yield aws_client


def test_every_aws_exchange_has_an_example() -> None:
    names = {name for name, exchange in EXCHANGES.items() if issubclass(exchange, AwsExchangeSpec)}

    assert EXAMPLE_STEPS.keys() == names, "add the exchange to EXAMPLE_STEPS in tests/support/exchange_steps.py"


@pytest.mark.parametrize("region", DOMAINS)
@pytest.mark.parametrize("operation", EXAMPLE_STEPS)
async def test_default_endpoints(operation: str, region: str, client: tuple[Aws, Calls]) -> None:
    url, signed = await first_call(client, operation, region)
    host = f"https://{EXAMPLE_STEPS[operation].host}.{region}.{DOMAINS[region]}/"

    assert url.startswith(host)
    assert url.removeprefix(host) in ("", "v1/authorization-token", "token", "federation/credentials")
    assert signed == (operation not in UNSIGNED)


async def test_region_of_the_exchange_takes_precedence(client: tuple[Aws, Calls]) -> None:
    url, _ = await first_call(client, "getSessionToken", "us-east-1", region="eu-west-1")

    assert url == "https://sts.eu-west-1.amazonaws.com/"


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
async def test_public_registry_has_one_endpoint(region: str, client: tuple[Aws, Calls]) -> None:
    url, _ = await first_call(client, "ecrGetAuthorizationToken", region, public=True)

    assert url == "https://api.ecr-public.us-east-1.amazonaws.com/"


async def test_repository_endpoints_are_requested_first(client: tuple[Aws, Calls]) -> None:
    url, _ = await first_call(client, "codeArtifactGetAuthorizationToken", "eu-west-1", repositories=REPOSITORIES)

    assert url == "https://codeartifact.eu-west-1.amazonaws.com/v1/repository/endpoint"


@cases(
    "settings, operation, region, url",
    {
        "FIPS": (AwsSettings(fips=True), "assumeRole", "us-east-1", "https://sts-fips.us-east-1.amazonaws.com/"),
        "FIPS in GovCloud": (
            AwsSettings(fips=True),
            "ecrGetAuthorizationToken",
            "us-gov-west-1",
            "https://api.ecr-fips.us-gov-west-1.amazonaws.com/",
        ),
        "dual stack": (AwsSettings(dual_stack=True), "assumeRole", "eu-west-1", "https://sts.eu-west-1.api.aws/"),
        "both": (
            AwsSettings(dual_stack=True, fips=True),
            "licenseManagerGetAccessToken",
            "us-east-1",
            "https://license-manager-fips.us-east-1.api.aws/",
        ),
        "an endpoint of a region takes precedence over FIPS and dual stack": (
            AwsSettings(endpoints=ENDPOINTS, fips=True, dual_stack=True),
            "assumeRole",
            "eu-west-1",
            "https://eu.example/",
        ),
        "an endpoint of a service": (
            AwsSettings(endpoints={"sts": "https://vpce.example"}),
            "assumeRole",
            "cn-north-1",
            "https://vpce.example/",
        ),
    },
)
async def test_endpoints_by_settings(settings: AwsSettings, operation: str, region: str, url: str) -> None:
    with recording_client(settings) as client:
        assert (await first_call(client, operation, region))[0] == url
