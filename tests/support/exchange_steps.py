"""One step of a pipeline against the emulator, as the spine takes it."""

from collections.abc import Mapping
from typing import Any

import pytest

from keyturn.api.source import ConfigMapKeyRef, SecretKeyRef
from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.core.service_health import ServiceHealth
from keyturn.core.settings import AwsSettings, IssuerSettings, SourceSettings
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.context import Call, ExchangeContext, MakeToken
from keyturn.exchanges.issuer_http import IssuerClient
from keyturn.exchanges.registry import exchange
from keyturn.metrics import Metrics
from tests.support.clock import real_now
from tests.support.dependencies import request
from tests.support.emulator.client import Emulator

LOOPBACK = IssuerSettings(allowed_private_networks=("127.0.0.0/8", "::1/128"))


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
) -> IssuerClient:
    """The connections to issuers, which may be on loopback."""
    return IssuerClient(settings, metrics or Metrics(), real_now, service_health or ServiceHealth())


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


async def failing(client: Aws, emulator: Emulator, operation: str, **fault: Any) -> KeyturnError:
    """What is raised where an operation goes wrong, however often it is tried."""
    emulator.fault(operation, times=None, **fault)
    failed = get_access_token if operation == "GetAccessToken" else assume_role
    with pytest.raises(KeyturnError) as raised:
        await failed(client, emulator.refresh_token())
    return raised.value
