"""Where each operation is asked, without a network: the hosts are botocore's, whatever the region."""

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
from tests.support.dependencies import ROLE, request
from tests.support.emulator.constants import ACCOUNT, APPLICATION_ARN, LICENSE_ARN, POOL_ID
from tests.support.exchange_steps import aws, context
from tests.support.manifests.tokens import EXCHANGE

OURS = {"sts": "https://vpce.example", "sts/eu-west-1": "https://eu.example"}
SOURCE = {
    "token": {"secretKeyRef": {"name": "license", "key": "token"}},
    "credentials": {"secretRef": {"name": "base"}},
}
HELD = PipelineValues(Token("token"), credentials=Credentials("AKIA1", "key"))
IN_POOL = {"identityPoolId": POOL_ID, "logins": {"login.example.com": "accessToken"}}
REPOSITORIES = [{"repository": "packages", "formats": ["npm"]}]
# By operation: the step, and which services it asks.
STEPS: dict[str, tuple[dict[str, Any], str]] = {
    "licenseManagerGetAccessToken": ({}, "license-manager"),
    "licenseManagerCreateToken": ({"licenseArn": LICENSE_ARN}, "license-manager"),
    "identityCenterCreateToken": ({"clientId": APPLICATION_ARN, "grantType": EXCHANGE}, "oidc"),
    "identityCenterGetRoleCredentials": ({"roleName": "Reader", "accountId": ACCOUNT}, "portal.sso"),
    "assumeRole": ({"roleArn": ROLE}, "sts"),
    "assumeRoleWithWebIdentity": ({"roleArn": ROLE}, "sts"),
    "getSessionToken": ({}, "sts"),
    "getFederationToken": ({}, "sts"),
    "cognitoGetCredentials": (IN_POOL, "cognito-identity"),
    "cognitoGetOpenIdToken": (IN_POOL, "cognito-identity"),
    "codeArtifactGetAuthorizationToken": ({"domain": "acme"}, "codeartifact"),
    "ecrGetAuthorizationToken": ({}, "api.ecr"),
}
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
    """A client that sends nothing; the list tells what it would have asked, and whether signed."""
    seen: Seen = []

    def stop(**about: Any) -> None:
        sent = about["request"]
        seen.append((str(sent.url).split("?", maxsplit=1)[0], "Authorization" in sent.headers))
        raise EndpointConnectionError(endpoint_url=sent.url)

    with closing(aws(settings)) as made:
        made._session._session.register("before-send", stop)
        yield made, seen


async def asked(client: tuple[Aws, Seen], operation: str, place: str, **fields: Any) -> tuple[str, bool]:
    """The URL that a step asks first, and whether the call is signed."""
    made, seen = client
    seen.clear()
    wanted = request(source=SOURCE, region=place, exchanges=[{operation: STEPS[operation][0] | fields}])
    with pytest.raises(UnavailableError):
        await exchange(context(made), wanted, wanted.spec.exchanges[0], HELD)
    return seen[0]


@pytest.fixture(scope="module")
def client() -> Iterator[tuple[Aws, Seen]]:
    with watched() as made:
        yield made


def test_every_operation_of_aws_has_its_row() -> None:
    assert STEPS.keys() == EXCHANGES.keys() - {"oauthToken"}


@pytest.mark.parametrize("region", PLACES)
@pytest.mark.parametrize("operation", STEPS)
async def test_the_usual_places(operation: str, region: str, client: tuple[Aws, Seen]) -> None:
    url, signed = await asked(client, operation, region)
    host = f"https://{STEPS[operation][1]}.{region}.{PLACES[region]}/"

    assert url.startswith(host)
    assert url.removeprefix(host) in ("", "v1/authorization-token", "token", "federation/credentials")
    assert signed == (operation not in UNSIGNED)


async def test_a_region_of_the_step_goes_before(client: tuple[Aws, Seen]) -> None:
    url, _ = await asked(client, "getSessionToken", "us-east-1", region="eu-west-1")

    assert url == "https://sts.eu-west-1.amazonaws.com/"


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
async def test_the_public_registry_has_one_place(region: str, client: tuple[Aws, Seen]) -> None:
    url, _ = await asked(client, "ecrGetAuthorizationToken", region, public=True)

    assert url == "https://api.ecr-public.us-east-1.amazonaws.com/"


async def test_repository_endpoints_are_asked_for_first(client: tuple[Aws, Seen]) -> None:
    url, _ = await asked(client, "codeArtifactGetAuthorizationToken", "eu-west-1", repositories=REPOSITORIES)

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
async def test_places_by_the_settings(settings: AwsSettings, operation: str, region: str, url: str) -> None:
    with watched(settings) as client:
        assert (await asked(client, operation, region))[0] == url


def test_proxy_and_certificates_go_to_the_client(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    settings = AwsSettings(proxy="http://proxy.example:3128", ca_bundle=str(bundle))
    with closing(aws(settings)) as client:
        session = client._client("sts", "us-east-1", signed=True)._endpoint.http_session

    assert session._proxy_config.proxy_url_for("https://sts.us-east-1.amazonaws.com/") == "http://proxy.example:3128"
    assert session._verify == str(bundle)
