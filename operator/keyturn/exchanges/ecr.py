"""Amazon ECR: credentials for the passwords of container registries."""

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from keyturn.api.exchanges.ecr import EcrGetAuthorizationTokenSpec
from keyturn.api.times import whole
from keyturn.core.errors import UnavailableError
from keyturn.core.pipeline_values import PipelineValues, RegistryLogin, safe
from keyturn.exchanges.aws_errors import SIGNED, AwsOperation, ErrorClassification, member
from keyturn.exchanges.context import Call

# ecr-public is there only; elsewhere it answers UnsupportedCommandException.
_PUBLIC_REGION, _PUBLIC_HOST = "us-east-1", "public.ecr.aws"
_CLASSIFICATIONS = SIGNED | {
    "InvalidParameterException": ErrorClassification("InvalidSpec", hint="are registryIds account numbers?"),
    "ServerException": ErrorClassification("Unavailable"),
    "UnsupportedCommandException": ErrorClassification("InvalidSpec", hint="public registries are in us-east-1 only"),
}
_PRIVATE = AwsOperation(
    exchange="ecrGetAuthorizationToken",
    service="ecr",
    name="get_authorization_token",
    title="ECR GetAuthorizationToken",
    classifications=_CLASSIFICATIONS
    | {
        "AccessDeniedException": ErrorClassification(
            "AccessDenied", hint="may the caller ecr:GetAuthorizationToken?", eventually_consistent=True
        )
    },
)
_PUBLIC = AwsOperation(
    exchange="ecrGetAuthorizationToken",
    service="ecr-public",
    name="get_authorization_token",
    title="ECR Public GetAuthorizationToken",
    classifications=_CLASSIFICATIONS
    | {
        "AccessDeniedException": ErrorClassification(
            "AccessDenied",
            hint="may the caller ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken?",
            eventually_consistent=True,
        )
    },
)


async def get_authorization_token(
    call: Call, wanted: EcrGetAuthorizationTokenSpec, held: PipelineValues
) -> PipelineValues:
    """Call ecr (or ecr-public) GetAuthorizationToken; its logins join those of the steps before."""
    operation, region = (_PUBLIC, _PUBLIC_REGION) if wanted.public else (_PRIVATE, call.region)
    parameters = {"registryIds": list(wanted.registry_ids)} if wanted.registry_ids else {}
    response = await call.context.aws.call(operation, region, parameters, held.own_credentials)
    given = member(operation, response.members, "authorizationData")
    logins = [_login(operation, one) for one in ([given] if wanted.public else given)]
    by_host = {login.host: login for login in (*held.registry_logins, *logins)}
    return replace(held, registry_logins=tuple(by_host.values()), request_id=response.request_id)


def _login(operation: AwsOperation, given: Mapping[str, Any]) -> RegistryLogin:
    endpoint = _PUBLIC_HOST if operation is _PUBLIC else member(operation, given, "proxyEndpoint")
    try:
        decoded = base64.b64decode(member(operation, given, "authorizationToken"), validate=True).decode()
    except ValueError:
        raise UnavailableError("Unavailable", f"{operation.title} answered a token that is not base64") from None
    username, _, password = decoded.partition(":")
    return RegistryLogin(
        host=safe(endpoint.removeprefix("https://").removeprefix("http://").rstrip("/"), "ECR's endpoint"),
        username=safe(username, "ECR's user name"),
        password=safe(password, "ECR's password"),
        expires_at=whole(member(operation, given, "expiresAt")),
    )
