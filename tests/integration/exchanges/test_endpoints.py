"""The endpoint of each operation, without a network: the hosts are botocore's, whatever the region."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from keyturn.api.exchanges.registry import EXCHANGES
from keyturn.core.errors import UnavailableError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.core.settings import AwsSettings
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.registry import exchange
from tests.support.dependencies import request
from tests.support.exchange_steps import EXAMPLE_STEPS, TOKEN_AND_CREDENTIALS, aws, context

OURS = {"sts": "https://vpce.example", "sts/eu-west-1": "https://eu.example"}
HELD = PipelineValues(Token("token"), credentials=Credentials("AKIA1", "key"))
REPOSITORIES = [{"repository": "packages", "formats": ["npm"]}]
PLACES = {
    "us-east-1": "amazonaws.com",
    "eu-west-1": "amazonaws.com",
    "us-gov-west-1": "amazonaws.com",
    "cn-north-1": "amazonaws.com.cn",
}
UNSIGNED = {
    "licenseManagerGetAccessToken", "identityCenterGetRoleCredentials", "assumeRoleWithWebIdentity",
    "cognitoGetCredentials", "cognitoGetOpenIdToken",
}  # fmt: skip


Seen = list[tuple[str, bool]]


@contextmanager
def watched(settings: AwsSettings | None = None) -> Iterator[tuple[Aws, Seen]]:
    """A client that sends nothing, and a list of the URLs it would have called and whether they were signed."""
    seen: Seen = []

    def stop(**about: Any) -> None:
        sent = about["request"]
        seen.append((str(sent.url).split("?", maxsplit=1)[0], "Authorization" in sent.headers))
        raise EndpointConnectionError(endpoint_url=sent.url)

    with closing(aws(settings)) as made:
        made._session._session.register("before-send", stop)
        yield made, seen


async def received(client: tuple[Aws, Seen], operation: str, place: str, **fields: Any) -> tuple[str, bool]:
    """The first URL that an exchange calls, and whether the call is signed."""
    made, seen = client
    seen.clear()
    token_request = request(
        source=TOKEN_AND_CREDENTIALS, region=place, exchanges=[{operation: EXAMPLE_STEPS[operation][0] | fields}]
    )
    with pytest.raises(UnavailableError):
        await exchange(context(made), token_request, token_request.spec.exchanges[0], HELD)
    return seen[0]


@pytest.fixture(scope="module")
def client() -> Iterator[tuple[Aws, Seen]]:
    with watched() as made:
        yield made


def test_every_aws_exchange_has_a_row() -> None:
    assert EXAMPLE_STEPS.keys() == EXCHANGES.keys() - {"oauthToken"}


@pytest.mark.parametrize("region", PLACES)
@pytest.mark.parametrize("operation", EXAMPLE_STEPS)
async def test_default_endpoints(operation: str, region: str, client: tuple[Aws, Seen]) -> None:
    url, signed = await received(client, operation, region)
    host = f"https://{EXAMPLE_STEPS[operation][1]}.{region}.{PLACES[region]}/"

    assert url.startswith(host)
    assert url.removeprefix(host) in ("", "v1/authorization-token", "token", "federation/credentials")
    assert signed == (operation not in UNSIGNED)


async def test_region_of_the_exchange_takes_precedence(client: tuple[Aws, Seen]) -> None:
    url, _ = await received(client, "getSessionToken", "us-east-1", region="eu-west-1")

    assert url == "https://sts.eu-west-1.amazonaws.com/"


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
async def test_public_registry_has_one_endpoint(region: str, client: tuple[Aws, Seen]) -> None:
    url, _ = await received(client, "ecrGetAuthorizationToken", region, public=True)

    assert url == "https://api.ecr-public.us-east-1.amazonaws.com/"


async def test_repository_endpoints_are_requested_first(client: tuple[Aws, Seen]) -> None:
    url, _ = await received(client, "codeArtifactGetAuthorizationToken", "eu-west-1", repositories=REPOSITORIES)

    assert url == "https://codeartifact.eu-west-1.amazonaws.com/v1/repository/endpoint"


@pytest.mark.parametrize(
    ("settings", "operation", "region", "url"),
    [
        pytest.param(
            AwsSettings(fips=True),
            "assumeRole",
            "us-east-1",
            "https://sts-fips.us-east-1.amazonaws.com/",
            id="FIPS",
        ),
        pytest.param(
            AwsSettings(fips=True),
            "ecrGetAuthorizationToken",
            "us-gov-west-1",
            "https://api.ecr-fips.us-gov-west-1.amazonaws.com/",
            id="FIPS of a government",
        ),
        pytest.param(
            AwsSettings(dual_stack=True),
            "assumeRole",
            "eu-west-1",
            "https://sts.eu-west-1.api.aws/",
            id="dual stack",
        ),
        pytest.param(
            AwsSettings(dual_stack=True, fips=True),
            "licenseManagerGetAccessToken",
            "us-east-1",
            "https://license-manager-fips.us-east-1.api.aws/",
            id="both",
        ),
        pytest.param(
            AwsSettings(endpoints=OURS, fips=True, dual_stack=True),
            "assumeRole",
            "eu-west-1",
            "https://eu.example/",
            id="an endpoint of a region, whatever else is wished for",
        ),
        pytest.param(
            AwsSettings(endpoints={"sts": "https://vpce.example"}),
            "assumeRole",
            "cn-north-1",
            "https://vpce.example/",
            id="an endpoint of a service",
        ),
    ],
)
async def test_endpoints_by_settings(settings: AwsSettings, operation: str, region: str, url: str) -> None:
    with watched(settings) as client:
        assert (await received(client, operation, region))[0] == url


def test_proxy_and_ca_bundle_are_passed_to_the_client(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    settings = AwsSettings(proxy="http://proxy.example:3128", ca_bundle=str(bundle))
    with closing(aws(settings)) as client:
        session = client._client("sts", "us-east-1", signed=True)._endpoint.http_session

    assert session._proxy_config.proxy_url_for("https://sts.us-east-1.amazonaws.com/") == "http://proxy.example:3128"
    assert session._verify == str(bundle)
