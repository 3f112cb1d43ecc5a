"""The registries of exchanges: a coroutine for each spec type. The modules do not import each other."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any

from keyturn.api.exchanges.base import AwsExchangeSpec
from keyturn.api.exchanges.codeartifact import CodeArtifactGetAuthorizationTokenSpec
from keyturn.api.exchanges.cognito import CognitoGetCredentialsSpec, CognitoGetOpenIdTokenSpec
from keyturn.api.exchanges.ecr import EcrGetAuthorizationTokenSpec
from keyturn.api.exchanges.identity_center import IdentityCenterCreateTokenSpec, IdentityCenterGetRoleCredentialsSpec
from keyturn.api.exchanges.license_manager import LicenseManagerCreateTokenSpec, LicenseManagerGetAccessTokenSpec
from keyturn.api.exchanges.oauth import OauthTokenSpec
from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.exchanges.sts import (
    AssumeRoleSpec,
    AssumeRoleWithWebIdentitySpec,
    GetFederationTokenSpec,
    GetSessionTokenSpec,
)
from keyturn.api.token_request import Request
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.core.token_times import jwt_times
from keyturn.exchanges import codeartifact, cognito, ecr, identity_center, license_manager, oauth, sts
from keyturn.exchanges.context import Call, ExchangeContext, OnRead
from keyturn.exchanges.transmission import Send

_DEFAULT_AUDIENCES = ("sts.amazonaws.com",)
_DEFAULT_SECONDS = 3600

# Exchanges that may consume a token. They build the whole request before the intent to consume the token is written.
CONSUMING: Mapping[type, Callable[[Call, Any, PipelineValues], Awaitable[Send]]] = {
    OauthTokenSpec: oauth.prepare_token,
    IdentityCenterCreateTokenSpec: identity_center.prepare_create_token,
    AssumeRoleSpec: sts.prepare_assume_role,
    GetSessionTokenSpec: sts.prepare_get_session_token,
}
CALLS: Mapping[type, Callable[[Call, Any, PipelineValues], Awaitable[PipelineValues]]] = {
    LicenseManagerGetAccessTokenSpec: license_manager.get_access_token,
    LicenseManagerCreateTokenSpec: license_manager.create_token,
    IdentityCenterGetRoleCredentialsSpec: identity_center.get_role_credentials,
    AssumeRoleWithWebIdentitySpec: sts.assume_role_with_web_identity,
    GetFederationTokenSpec: sts.get_federation_token,
    CognitoGetCredentialsSpec: cognito.get_credentials,
    CognitoGetOpenIdTokenSpec: cognito.get_open_id_token,
    CodeArtifactGetAuthorizationTokenSpec: codeartifact.get_authorization_token,
    EcrGetAuthorizationTokenSpec: ecr.get_authorization_token,
}


async def prepare(
    context: ExchangeContext,
    request: Request,
    step: StepSpec,
    values: PipelineValues,
    *,
    on_read: OnRead = lambda _ref, _value: None,
) -> Send:
    """Prepare one exchange of a pipeline. Returns the call that runs it, which returns the values with its results.

    Nothing is sent to the exchange's service before that call. Both raise KeyturnError, and both call `on_read` with
    each value that they read from a Secret or ConfigMap.
    """
    spec, source, consumption = step.exchange, request.spec.source, request.spec.consumption
    region = spec.region if isinstance(spec, AwsExchangeSpec) else None
    renewal = f"{request.uid}/{values.revision}/{request.exchange_hash}"
    call = Call(
        context=context,
        namespace=request.namespace,
        region=region or request.spec.region or "",
        name=request.name,
        is_ambient=source.is_ambient,
        consumes=consumption is not None and consumption.exchange is spec,
        on_read=on_read,
        # An idempotency token of 56 characters: retries send the same one, even after a crash.
        client_token=f"keyturn-{hashlib.sha256(renewal.encode()).hexdigest()[:48]}",
    )
    if source.service_account and values.source_token is None:
        account = source.service_account
        audiences, seconds = account.audiences or _DEFAULT_AUDIENCES, account.expiration_seconds or _DEFAULT_SECONDS
        token = await call.service_account_token(account.name, audiences, seconds)
        values = replace(values, source_token=Token(token, jwt_times(token).expires_at))
    if prepare_exchange := CONSUMING.get(type(spec)):
        return await prepare_exchange(call, spec, values)
    return lambda _: CALLS[type(spec)](call, spec, values)


def reserve(
    context: ExchangeContext, request: Request, step: StepSpec, *, min_interval: timedelta = timedelta()
) -> AbstractContextManager[None]:
    """Reserve a slot for an exchange while the block runs; raises ThrottledError if the issuer is busy.

    If other exchanges precede this one, the next attempt repeats them, so it is made after `min_interval` at the
    earliest.
    """
    if step.oauth_token is None:
        return nullcontext()
    pause = timedelta() if step is request.spec.exchanges[0] else min_interval
    return context.issuer_client.reserve(step.oauth_token.token_url, request.namespace, request.uid, pause)
