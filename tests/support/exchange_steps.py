"""Run exchanges against the emulator, as the reconciler does."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.source import ConfigMapKeyRef, SecretKeyRef
from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.core.proxies import NO_PROXIES, Proxies
from keyturn.core.service_health import ServiceHealth
from keyturn.core.settings import AmbientRule, AwsSettings, IssuerSettings, SourceSettings
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.context import Call, ExchangeContext, MakeToken
from keyturn.exchanges.issuer_http import IssuerClient
from keyturn.exchanges.registry import prepare
from keyturn.exchanges.transmission import Transmission
from keyturn.metrics import Metrics
from tests.support.clock import real_now
from tests.support.dependencies import REFRESH, ROLE, request
from tests.support.emulator.client import Emulator, endpoints
from tests.support.emulator.constants import (
    ACCOUNT,
    ACCOUNT_ROLE_ARN,
    APPLICATION_ARN,
    CLIENT_ID,
    CLIENT_SECRET,
    LICENSE_ARN,
    POOL_ID,
    USER_KEY_ID,
    USER_SECRET_KEY,
)
from tests.support.manifests.tokens import EXCHANGE, oauth

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
KEYS = {"AccessKeyId": "ASIA1", "SecretKey": "key", "SessionToken": "session", "Expiration": 4e9}
ROLE_KEYS = {"accessKeyId": "ASIA1", "secretAccessKey": "key", "sessionToken": "s", "expiration": 4 * 10**12}
LOGIN = {"authorizationToken": "QVdTOnBhc3M=", "expiresAt": 4e9, "proxyEndpoint": "https://1.dkr.ecr.aws"}
CENTER_TOKENS: dict[str, Any] = {
    "accessToken": "token",
    "expiresIn": 3600,
    "refreshToken": "refresh",
    "idToken": "id",
    "awsAdditionalDetails": {"identityContext": "context"},
}


@dataclass(frozen=True, slots=True)
class ExampleStep:
    """The fields of an exchange, the host prefix of its service, and a response in JSON; None: the service uses XML."""

    fields: dict[str, Any]
    host: str
    response: dict[str, Any] | None


# Every AWS exchange, by its name in a manifest.
EXAMPLE_STEPS = {
    "licenseManagerGetAccessToken": ExampleStep({}, "license-manager", {"AccessToken": "token"}),
    "licenseManagerCreateToken": ExampleStep(
        {"licenseArn": LICENSE_ARN}, "license-manager", {"Token": "token", "TokenId": "id"}
    ),
    "identityCenterCreateToken": ExampleStep(
        {"clientId": APPLICATION_ARN, "grantType": EXCHANGE}, "oidc", CENTER_TOKENS
    ),
    "identityCenterGetRoleCredentials": ExampleStep(
        {"roleName": "Reader", "accountId": ACCOUNT}, "portal.sso", {"roleCredentials": ROLE_KEYS}
    ),
    "assumeRole": ExampleStep({"roleArn": ROLE}, "sts", None),
    "assumeRoleWithWebIdentity": ExampleStep({"roleArn": ROLE}, "sts", None),
    "getSessionToken": ExampleStep({}, "sts", None),
    "getFederationToken": ExampleStep({}, "sts", None),
    "cognitoGetCredentials": ExampleStep(
        POOL_STEP, "cognito-identity", {"IdentityId": "us-east-1:1", "Credentials": KEYS}
    ),
    "cognitoGetOpenIdToken": ExampleStep(
        POOL_STEP, "cognito-identity", {"IdentityId": "us-east-1:1", "Token": "token"}
    ),
    "codeArtifactGetAuthorizationToken": ExampleStep(
        {"domain": "acme"}, "codeartifact", {"authorizationToken": "token", "expiration": 4e9}
    ),
    "ecrGetAuthorizationToken": ExampleStep({}, "api.ecr", {"authorizationData": [LOGIN]}),
}


def aws(
    settings: AwsSettings | None = None,
    metrics: Metrics | None = None,
    threads: int = 16,
    *,
    timeout_seconds: float = 60,
    allow_ambient: bool = False,
    proxies: Proxies = NO_PROXIES,
) -> Aws:
    """A new AWS client, as after a start."""
    return Aws(
        settings or AwsSettings(),
        metrics or Metrics(),
        real_now,
        ServiceHealth(),
        threads,
        timeout_seconds=timeout_seconds,
        allow_ambient=allow_ambient,
        proxies=proxies,
    )


def issuer_client(
    settings: IssuerSettings = LOOPBACK,
    metrics: Metrics | None = None,
    service_health: ServiceHealth | None = None,
    proxies: Proxies = NO_PROXIES,
    timeout_seconds: float = 10,
) -> IssuerClient:
    """A client that allows issuers on loopback."""
    service_health = service_health or ServiceHealth()
    metrics = metrics or Metrics()
    return IssuerClient(settings, metrics, real_now, service_health, proxies=proxies, timeout_seconds=timeout_seconds)


def context(
    client: Aws,
    issuers: IssuerClient | None = None,
    values: Mapping[str, str] | None = None,
    sources: SourceSettings | None = None,
    make_token: MakeToken | None = None,
) -> ExchangeContext:
    """The context of the exchanges. `values` are the secret values of the specs, by the name of their Secret."""

    async def read_value(_: str, ref: SecretKeyRef | ConfigMapKeyRef) -> str:
        return (values or {})[ref.name]

    exchange_context = client, issuers or issuer_client(), read_value, make_token or no_token
    return ExchangeContext(*exchange_context, sources or SourceSettings())


async def no_token(*_: object) -> str:
    """Fail: these tests have no service account."""
    raise AssertionError


def call(client: Aws) -> Call:
    """A call for the default request."""
    return Call(context(client), "billing", "us-east-1", "acme")


async def exchange(
    exchange_context: ExchangeContext, token_request: Request, step: StepSpec, values: PipelineValues
) -> PipelineValues:
    """Prepare and run one exchange."""
    send = await prepare(exchange_context, token_request, step, values)
    return await send(Transmission())


async def get_access_token(client: Aws, token: str, token_request: Request | None = None) -> PipelineValues:
    return await step(client, PipelineValues(Token(token)), token_request or request(), 0)


async def assume_role(client: Aws, token: str, token_request: Request | None = None) -> PipelineValues:
    return await step(client, PipelineValues(Token(token)), token_request or request(), 1)


async def step(client: Aws, values: PipelineValues, token_request: Request, number: int = 0) -> PipelineValues:
    return await exchange(context(client), token_request, token_request.spec.exchanges[number], values)


async def fail_operation(client: Aws, emulator: Emulator, operation: str, **fault: Any) -> KeyturnError:
    """Run an exchange whose operation fails on every attempt, and return the error."""
    emulator.fault(operation, times=None, **fault)
    run = get_access_token if operation == "GetAccessToken" else assume_role
    with pytest.raises(KeyturnError) as raised:
        await run(client, emulator.refresh_token())
    return raised.value


def emulator_settings(emulator: Emulator) -> AwsSettings:
    """Settings whose endpoints are the emulator's."""
    return AwsSettings(endpoints=endpoints(emulator.url))


async def run_pipeline(
    exchange_context: ExchangeContext, namespace: str = "billing", values: PipelineValues | None = None, **spec: Any
) -> PipelineValues:
    token_request = request(namespace=namespace, **spec)
    values = values or PipelineValues()
    for step in token_request.spec.exchanges:
        values = await exchange(exchange_context, token_request, step, values)
    return values


async def fail_pipeline(exchange_context: ExchangeContext, namespace: str = "billing", **spec: Any) -> KeyturnError:
    with pytest.raises(KeyturnError) as raised:
        await run_pipeline(exchange_context, namespace, **spec)
    return raised.value


async def run_signed(
    client: Aws,
    *steps: dict[str, Any],
    times: int = 1,
    keys: Credentials = USER_CREDENTIALS,
    secrets: Mapping[str, str] | None = None,
) -> PipelineValues:
    """Run all exchanges `times` times, starting from these keys; `secrets` are values by the name of their Secret."""
    token_request = request(source={"credentials": {"secretRef": {"name": "base"}}}, exchanges=list(steps))
    exchange_context = context(client, values=secrets)
    for _ in range(times):
        values = PipelineValues(credentials=keys)
        for step in token_request.spec.exchanges:
            ref = step.exchange.single_use_credential
            single_use = (secrets or {})[ref.secret_key_ref.name] if ref else None
            values = replace(values, single_use_credential=single_use)
            values = await exchange(exchange_context, token_request, step, values)
    return values


async def fail_signed(client: Aws, *steps: dict[str, Any], **options: Any) -> KeyturnError:
    with pytest.raises(KeyturnError) as raised:
        await run_signed(client, *steps, **options)
    return raised.value


def refresh_request(emulator: Emulator, *before: dict[str, Any], **changes: Any) -> Request:
    """A request whose last exchange refreshes a token at the emulator's issuer; None removes a field."""
    fields = {
        "tokenUrl": f"{emulator.issuer_url}/token",
        "grantType": "refresh_token",
        "clientId": CLIENT_ID,
        "clientSecretFrom": SECRET_FROM,
        "caBundleFrom": CA_FROM,
    } | changes
    fields = {key: value for key, value in fields.items() if value is not None}
    return request(exchanges=[*before, {"oauthToken": fields}])


class OauthIssuer:
    """The emulator's issuer, called as the reconciler does. `values` are secret values by the name of their Secret."""

    def __init__(self, client: Aws, emulator: Emulator) -> None:
        self.client, self.emulator, self.issuers = client, emulator, issuer_client()
        self.values = {"client": CLIENT_SECRET, "ca": emulator.ca}
        self.make_token: MakeToken = no_token
        self.sources = SourceSettings()

    async def call(self, values: PipelineValues, **changes: Any) -> PipelineValues:
        before = [REFRESH] if "from" in changes else []
        if "pipeline" in (changes.get("clientAssertionFrom") or {}):
            before = oauth()["exchanges"]
        token_request = refresh_request(self.emulator, *before, **changes)
        exchange_context = context(self.client, self.issuers, self.values, self.sources, self.make_token)
        return await exchange(exchange_context, token_request, token_request.spec.exchanges[-1], values)

    async def fail(self, values: PipelineValues, **changes: Any) -> KeyturnError:
        with pytest.raises(KeyturnError) as raised:
            await self.call(values, **changes)
        return raised.value

    async def refresh(self, token: str = "", **changes: Any) -> PipelineValues:
        """Exchange this refresh token, or a new one."""
        return await self.call(PipelineValues(Token(token or self.emulator.oauth_refresh_token())), **changes)

    async def fail_refresh(self, **changes: Any) -> KeyturnError:
        return await self.fail(PipelineValues(Token(self.emulator.oauth_refresh_token())), **changes)

    def assertion(self, **claims: Any) -> Token:
        """A JWT that the issuer accepts as an assertion."""
        return Token(self.emulator.jwt(self.emulator.issuer_url, **claims))
