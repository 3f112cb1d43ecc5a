"""One small file per system that tokens are exchanged with; siblings do not know each other."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from keyturn.api.exchanges.registry import (
    AssumeRole,
    AssumeRoleWithWebIdentity,
    AwsOperation,
    CodeArtifactGetAuthorizationToken,
    CognitoGetCredentials,
    CognitoGetOpenIdToken,
    EcrGetAuthorizationToken,
    GetFederationToken,
    GetSessionToken,
    IdentityCenterCreateToken,
    IdentityCenterGetRoleCredentials,
    LicenseManagerCreateToken,
    LicenseManagerGetAccessToken,
    OauthToken,
)
from keyturn.api.token_request import Exchange, Request
from keyturn.core.pipeline_values import PipelineValues
from keyturn.exchanges import codeartifact, cognito, ecr, identity_center, license_manager, sts
from keyturn.exchanges.allowed_identities import service_account_token
from keyturn.exchanges.context import Call, ExchangeContext
from keyturn.exchanges.oauth import token

EXCHANGES: Mapping[type, Callable[[Call, Any, PipelineValues], Awaitable[PipelineValues]]] = {
    LicenseManagerGetAccessToken: license_manager.get_access_token,
    LicenseManagerCreateToken: license_manager.create_token,
    OauthToken: token.token,
    IdentityCenterCreateToken: identity_center.create_token,
    IdentityCenterGetRoleCredentials: identity_center.get_role_credentials,
    AssumeRoleWithWebIdentity: sts.assume_role_with_web_identity,
    AssumeRole: sts.assume_role,
    GetSessionToken: sts.get_session_token,
    GetFederationToken: sts.get_federation_token,
    CognitoGetCredentials: cognito.get_credentials,
    CognitoGetOpenIdToken: cognito.get_open_id_token,
    CodeArtifactGetAuthorizationToken: codeartifact.get_authorization_token,
    EcrGetAuthorizationToken: ecr.get_authorization_token,
}


async def exchange(
    context: ExchangeContext, request: Request, step: Exchange, values: PipelineValues
) -> PipelineValues:
    """Run one step of a pipeline; raises the errors of core.errors and nothing else."""
    wanted, source = step.operation, request.spec.source
    region = wanted.region if isinstance(wanted, AwsOperation) else None
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
