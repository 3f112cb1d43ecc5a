"""One step of a pipeline against the emulator, as the spine takes it."""

import base64
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import pytest

from keyturn.api.source import ConfigMapKeyRef, SecretKeyRef
from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.core.service_health import ServiceHealth
from keyturn.core.settings import AmbientRule, AwsSettings, IssuerSettings, SourceSettings
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.context import Call, ExchangeContext, MakeToken
from keyturn.exchanges.issuer_http import IssuerClient
from keyturn.exchanges.registry import exchange
from keyturn.metrics import Metrics
from tests.support.clock import real_now
from tests.support.dependencies import ROLE, request
from tests.support.emulator import running
from tests.support.emulator.directory import APPLICATION_ARN
from tests.support.emulator.oauth.clients import CLIENT_ID
from tests.support.emulator.pools import POOL_ID
from tests.support.emulator.world import ACCOUNT, ACCOUNT_ROLE_ARN, LICENSE_ARN, USER_KEY_ID, USER_SECRET_KEY
from tests.support.manifests.tokens import EXCHANGE

LOOPBACK = IssuerSettings(allowed_private_networks=("127.0.0.0/8", "::1/128"))
AMBIENT_SETTINGS = SourceSettings(ambient=(AmbientRule(namespaces=("billing",), roles=(ACCOUNT_ROLE_ARN,)),))
ASSUME_ROLE_STEP: dict[str, Any] = {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN}}
AMBIENT_SOURCE: dict[str, Any] = {"credentials": {"ambient": {}}}

USER_CREDENTIALS = Credentials(USER_KEY_ID, USER_SECRET_KEY)
OAUTH_OPERATION = "oauth:token"
SECRET_FROM = {"secretKeyRef": {"name": "client", "key": "client_secret"}}
CA_FROM = {"secretKeyRef": {"name": "ca", "key": "ca.crt"}}

TOKEN_AND_CREDENTIALS = {
    "token": {"secretKeyRef": {"name": "license", "key": "token"}},
    "credentials": {"secretRef": {"name": "base"}},
}
POOL_STEP = {"identityPoolId": POOL_ID, "logins": {"login.example.com": "accessToken"}}
# By operation: the step, and which services it asks.
EXAMPLE_STEPS: dict[str, tuple[dict[str, Any], str]] = {
    "licenseManagerGetAccessToken": ({}, "license-manager"),
    "licenseManagerCreateToken": ({"licenseArn": LICENSE_ARN}, "license-manager"),
    "identityCenterCreateToken": ({"clientId": APPLICATION_ARN, "grantType": EXCHANGE}, "oidc"),
    "identityCenterGetRoleCredentials": ({"roleName": "Reader", "accountId": ACCOUNT}, "portal.sso"),
    "assumeRole": ({"roleArn": ROLE}, "sts"),
    "assumeRoleWithWebIdentity": ({"roleArn": ROLE}, "sts"),
    "getSessionToken": ({}, "sts"),
    "getFederationToken": ({}, "sts"),
    "cognitoGetCredentials": (POOL_STEP, "cognito-identity"),
    "cognitoGetOpenIdToken": (POOL_STEP, "cognito-identity"),
    "codeArtifactGetAuthorizationToken": ({"domain": "acme"}, "codeartifact"),
    "ecrGetAuthorizationToken": ({}, "api.ecr"),
}


def aws(
    settings: AwsSettings | None = None,
    metrics: Metrics | None = None,
    threads: int = 16,
    *,
    allow_ambient: bool = False,
) -> Aws:
    """A client of AWS that nobody has used before, as after a start."""
    return Aws(
        settings or AwsSettings(),
        metrics or Metrics(),
        real_now,
        ServiceHealth(),
        threads,
        allow_ambient=allow_ambient,
    )


def issuer_client(
    settings: IssuerSettings = LOOPBACK,
    metrics: Metrics | None = None,
    service_health: ServiceHealth | None = None,
    **limits: float,
) -> IssuerClient:
    """A client for issuers, which may be on loopback. `limits` are its timeouts."""
    return IssuerClient(settings, metrics or Metrics(), real_now, service_health or ServiceHealth(), **limits)


def context(
    client: Aws,
    issuers: IssuerClient | None = None,
    values: Mapping[str, str] | None = None,
    sources: SourceSettings | None = None,
    make_token: MakeToken | None = None,
) -> ExchangeContext:
    """The outside of the exchanges; `values` are the secrets of the steps, by the name of their Secret."""

    async def read_value(_: str, ref: SecretKeyRef | ConfigMapKeyRef) -> str:
        return (values or {})[ref.name]

    outside = client, issuers or issuer_client(), read_value, make_token or no_token
    return ExchangeContext(*outside, sources or SourceSettings())


async def no_token(*_: object) -> str:
    """Make no token: there is no service account here."""
    raise AssertionError


def call(client: Aws) -> Call:
    """A call for the flagship."""
    return Call(context(client), "billing", "us-east-1", "acme")


async def get_access_token(client: Aws, token: str, wanted: Request | None = None) -> PipelineValues:
    """Exchange a refresh token for an access token."""
    return await step(client, PipelineValues(Token(token)), wanted or request(), 0)


async def assume_role(client: Aws, token: str, wanted: Request | None = None) -> PipelineValues:
    """Exchange a token for the credentials of the role."""
    return await step(client, PipelineValues(Token(token)), wanted or request(), 1)


async def step(client: Aws, held: PipelineValues, wanted: Request, number: int = 0) -> PipelineValues:
    """Take one step of a request."""
    return await exchange(context(client), wanted, wanted.spec.exchanges[number], held)


async def failing(client: Aws, emulator: running.Aws, operation: str, **fault: Any) -> KeyturnError:
    """What is raised where an operation goes wrong, however often it is tried."""
    emulator.fault(operation, times=None, **fault)
    failed = get_access_token if operation == "GetAccessToken" else assume_role
    with pytest.raises(KeyturnError) as raised:
        await failed(client, emulator.refresh_token())
    return raised.value


def emulator_settings(emulator: running.Aws) -> AwsSettings:
    """Settings whose endpoints are the emulator's."""
    return AwsSettings(endpoints=running.endpoints(emulator.url))


async def run_pipeline(
    outside: ExchangeContext, namespace: str = "billing", held: PipelineValues | None = None, **spec: Any
) -> PipelineValues:
    """Take all steps of a request."""
    wanted = request(namespace=namespace, **spec)
    held = held or PipelineValues()
    for step in wanted.spec.exchanges:
        held = await exchange(outside, wanted, step, held)
    return held


async def fail_pipeline(outside: ExchangeContext, namespace: str = "billing", **spec: Any) -> KeyturnError:
    with pytest.raises(KeyturnError) as raised:
        await run_pipeline(outside, namespace, **spec)
    return raised.value


async def run_signed(
    client: Aws, *steps: dict[str, Any], times: int = 1, keys: Credentials = USER_CREDENTIALS
) -> PipelineValues:
    """Take the steps one after another, and all of them so many times."""
    wanted = request(source={"credentials": {"secretRef": {"name": "base"}}}, exchanges=list(steps))
    outside = context(client)
    for _ in range(times):
        held = PipelineValues(credentials=keys)
        for one in wanted.spec.exchanges:
            held = await exchange(outside, wanted, one, held)
    return held


async def fail_signed(client: Aws, *steps: dict[str, Any], keys: Credentials = USER_CREDENTIALS) -> KeyturnError:
    with pytest.raises(KeyturnError) as raised:
        await run_signed(client, *steps, keys=keys)
    return raised.value


def is_admitted(url: str, authorization: str) -> bool:
    """Whether a registry lets one in."""
    asked = urllib.request.Request(url, headers={"Authorization": authorization})  # noqa: S310 - our own server
    try:
        with urllib.request.urlopen(asked) as answer:  # noqa: S310 - our own server
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        if error.code == 401:
            return False
        raise


def basic_authorization(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def refresh_request(emulator: running.Aws, *before: dict[str, Any], **changes: Any) -> Request:
    """A request whose last exchange is a refresh at the emulator's issuer; None removes a field."""
    step = {
        "tokenUrl": f"{emulator.issuer}/token",
        "grantType": "refresh_token",
        "clientId": CLIENT_ID,
        "clientSecretFrom": SECRET_FROM,
        "caBundleFrom": CA_FROM,
    } | changes
    given = {key: value for key, value in step.items() if value is not None}
    return request(exchanges=[*before, {"oauthToken": given}])
