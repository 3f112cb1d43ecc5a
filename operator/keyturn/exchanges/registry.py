"""The registry of exchanges: a coroutine for each spec type. The modules do not import each other."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
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
from keyturn.api.source import ServiceAccountTokenSpec
from keyturn.api.token_request import Request
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import PipelineValues, Token, jwt_times, require_safe
from keyturn.exchanges import codeartifact, cognito, ecr, identity_center, license_manager, oauth, sts
from keyturn.exchanges.context import Call, ExchangeContext

_DEFAULT_AUDIENCES = ("sts.amazonaws.com",)
_DEFAULT_TOKEN_SECONDS = 3600

CALLS: Mapping[type, Callable[[Call, Any, PipelineValues], Awaitable[PipelineValues]]] = {
    LicenseManagerGetAccessTokenSpec: license_manager.get_access_token,
    LicenseManagerCreateTokenSpec: license_manager.create_token,
    OauthTokenSpec: oauth.token,
    IdentityCenterCreateTokenSpec: identity_center.create_token,
    IdentityCenterGetRoleCredentialsSpec: identity_center.get_role_credentials,
    AssumeRoleWithWebIdentitySpec: sts.assume_role_with_web_identity,
    AssumeRoleSpec: sts.assume_role,
    GetSessionTokenSpec: sts.get_session_token,
    GetFederationTokenSpec: sts.get_federation_token,
    CognitoGetCredentialsSpec: cognito.get_credentials,
    CognitoGetOpenIdTokenSpec: cognito.get_open_id_token,
    CodeArtifactGetAuthorizationTokenSpec: codeartifact.get_authorization_token,
    EcrGetAuthorizationTokenSpec: ecr.get_authorization_token,
}


async def exchange(
    context: ExchangeContext, request: Request, step: StepSpec, values: PipelineValues
) -> PipelineValues:
    """Run one exchange of a pipeline, and return the values with its results. Raises only KeyturnError."""
    spec, source = step.exchange, request.spec.source
    region = spec.region if isinstance(spec, AwsExchangeSpec) else None
    renewal = f"{request.uid}/{values.revision}/{request.exchange_hash}"
    call = Call(
        context=context,
        namespace=request.namespace,
        region=region or request.spec.region or "",
        name=request.name,
        is_ambient=source.is_ambient,
        # An idempotency token of 56 characters: retries, also after a crash, send the same.
        client_token=f"keyturn-{hashlib.sha256(renewal.encode()).hexdigest()[:48]}",
    )
    if source.service_account and values.source_token is None:
        values = replace(values, source_token=await _service_account_token(call, source.service_account))
    return await CALLS[type(spec)](call, spec, values)


async def _service_account_token(call: Call, spec: ServiceAccountTokenSpec) -> Token:
    """Create a token of a service account; raises RefusedError (IdentityNotAllowed) for audiences not allowed."""
    audiences = spec.audiences or _DEFAULT_AUDIENCES
    forbidden = [audience for audience in audiences if audience not in call.context.sources.audiences]
    if forbidden:
        raise RefusedError(
            "IdentityNotAllowed",
            f"the operator's settings (sources.audiences) do not allow {', '.join(forbidden)}",
        )
    seconds = spec.expiration_seconds or _DEFAULT_TOKEN_SECONDS
    token = await call.context.make_token(call.namespace, spec.name, audiences, seconds)
    return Token(require_safe(token, "the service account token"), jwt_times(token)[1])
