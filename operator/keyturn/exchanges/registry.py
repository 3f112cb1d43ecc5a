"""One small file per system that tokens are exchanged with; siblings do not know each other."""

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
from keyturn.api.token_request import Request
from keyturn.core.pipeline_values import PipelineValues
from keyturn.exchanges import codeartifact, cognito, ecr, identity_center, license_manager, sts
from keyturn.exchanges.allowed_identities import service_account_token
from keyturn.exchanges.context import Call, ExchangeContext
from keyturn.exchanges.oauth import token

EXCHANGES: Mapping[type, Callable[[Call, Any, PipelineValues], Awaitable[PipelineValues]]] = {
    LicenseManagerGetAccessTokenSpec: license_manager.get_access_token,
    LicenseManagerCreateTokenSpec: license_manager.create_token,
    OauthTokenSpec: token.token,
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
    """Run one step of a pipeline; raises the errors of core.errors and nothing else."""
    wanted, source = step.exchange, request.spec.source
    region = wanted.region if isinstance(wanted, AwsExchangeSpec) else None
    call = Call(
        context=context,
        namespace=request.namespace,
        region=region or request.spec.region or "",
        name=request.name,
        is_ambient=source.is_ambient,
        client_token=_client_token(request, values),
    )
    if source.service_account and values.source_token is None:
        token = await service_account_token(call, source.service_account)
        values = replace(values, source_token=token)
    return await EXCHANGES[type(wanted)](call, wanted, values)


def _client_token(request: Request, values: PipelineValues) -> str:
    """Name this very issue: a try that is made again, after a crash too, has the same name (56 characters)."""
    issue = f"{request.uid}/{values.revision}/{request.exchange_hash}"
    return f"keyturn-{hashlib.sha256(issue.encode()).hexdigest()[:48]}"
