"""Amazon ECR: exchanges credentials for the passwords of container registries."""

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from keyturn.api.exchanges.ecr import EcrGetAuthorizationTokenSpec
from keyturn.core.errors import UnavailableError
from keyturn.core.pipeline_values import PipelineValues, RegistryLogin, require_safe
from keyturn.exchanges.aws_errors import SIGNED, AwsOperation, ErrorClassification, expiration, member, not_allowed
from keyturn.exchanges.context import Call

# ecr-public exists only there; in other regions it returns UnsupportedCommandException.
_PUBLIC_REGION, _PUBLIC_HOST = "us-east-1", "public.ecr.aws"
_CLASSIFICATIONS = SIGNED | {
    "InvalidParameterException": ErrorClassification("InvalidSpec", hint="check that registryIds are account IDs"),
    "ServerException": ErrorClassification("Unavailable"),
    "UnsupportedCommandException": ErrorClassification("InvalidSpec", hint="public registries exist only in us-east-1"),
}
_PRIVATE = AwsOperation(
    exchange="ecrGetAuthorizationToken",
    service="ecr",
    name="get_authorization_token",
    title="ECR GetAuthorizationToken",
    classifications=_CLASSIFICATIONS | {"AccessDeniedException": not_allowed("ecr:GetAuthorizationToken")},
)
_PUBLIC = AwsOperation(
    exchange="ecrGetAuthorizationToken",
    service="ecr-public",
    name="get_authorization_token",
    title="ECR Public GetAuthorizationToken",
    classifications=_CLASSIFICATIONS
    | {"AccessDeniedException": not_allowed("ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken")},
)


async def get_authorization_token(
    call: Call, spec: EcrGetAuthorizationTokenSpec, values: PipelineValues
) -> PipelineValues:
    """Call ecr (or ecr-public) GetAuthorizationToken, and add its logins to those of earlier exchanges."""
    private = _PRIVATE.for_resource(call.region)
    operation, region = (_PUBLIC, _PUBLIC_REGION) if spec.public else (private, call.region)
    parameters = {"registryIds": list(spec.registry_ids)} if spec.registry_ids else {}
    response = await call.call_aws(
        operation, parameters, values.signing_credentials, principal=values.principal, region=region
    )
    data = member(operation, response.members, "authorizationData")
    logins = [_login(operation, authorization) for authorization in ([data] if spec.public else data)]
    for login in logins:
        response.require_unexpired(operation, "a token", login.expires_at)
    logins = [replace(login, clock_lag=response.clock_lag) for login in logins]
    if spec.hosts:
        logins[:1] = [replace(login, more_hosts=spec.hosts) for login in logins[:1]]
    by_host = {login.host: login for login in (*values.registry_logins, *logins)}
    return replace(values, registry_logins=tuple(by_host.values()), request_id=response.request_id)


def _login(operation: AwsOperation, authorization: Mapping[str, Any]) -> RegistryLogin:
    endpoint = _PUBLIC_HOST if operation is _PUBLIC else member(operation, authorization, "proxyEndpoint")
    try:
        token = require_safe(member(operation, authorization, "authorizationToken"), "ECR's token")
        decoded = base64.b64decode(token, validate=True).decode()
    except ValueError:
        raise UnavailableError("Unavailable", f"{operation.title} returned a token that is not base64") from None
    username, _, password = decoded.partition(":")
    return RegistryLogin(
        host=require_safe(endpoint.removeprefix("https://").removeprefix("http://").rstrip("/"), "ECR's endpoint"),
        username=require_safe(username, "ECR's user name"),
        password=require_safe(password, "ECR's password"),
        expires_at=expiration(operation, authorization, "expiresAt"),
    )
