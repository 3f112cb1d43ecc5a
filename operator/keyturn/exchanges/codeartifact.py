"""AWS CodeArtifact: exchanges credentials for a token, and finds the URLs of the repositories."""

from dataclasses import replace

from keyturn.api.exchanges.codeartifact import CodeArtifactGetAuthorizationTokenSpec
from keyturn.core.pipeline_values import PackageEndpoint, PipelineValues, Token, require_safe
from keyturn.exchanges.aws_errors import SIGNED, AwsOperation, ErrorClassification, expiration, member, not_allowed
from keyturn.exchanges.context import Call

_CLASSIFICATIONS = SIGNED | {
    "ConflictException": ErrorClassification("Unavailable"),
    "InternalServerException": ErrorClassification("Unavailable"),
    "ResourceNotFoundException": ErrorClassification(
        "InvalidSpec", hint="check that the domain, its owner and the repository exist in this region"
    ),
}
_GET_TOKEN = AwsOperation(
    exchange="codeArtifactGetAuthorizationToken",
    service="codeartifact",
    name="get_authorization_token",
    title="CodeArtifact GetAuthorizationToken",
    classifications=_CLASSIFICATIONS
    | {
        "AccessDeniedException": not_allowed("codeartifact:GetAuthorizationToken and sts:GetServiceBearerToken"),
        "ValidationException": ErrorClassification(
            "InvalidSpec", hint="check durationSeconds; 0 is valid only with the credentials of a role"
        ),
    },
)
_GET_ENDPOINT = AwsOperation(
    exchange="codeArtifactGetRepositoryEndpoint",
    service="codeartifact",
    name="get_repository_endpoint",
    title="CodeArtifact GetRepositoryEndpoint",
    classifications=_CLASSIFICATIONS
    | {
        "AccessDeniedException": not_allowed("codeartifact:GetRepositoryEndpoint"),
        "ValidationException": ErrorClassification(
            "InvalidSpec", hint="check the format and endpointType of the repository"
        ),
    },
)


async def get_authorization_token(
    call: Call, spec: CodeArtifactGetAuthorizationTokenSpec, values: PipelineValues
) -> PipelineValues:
    """Call codeartifact GetAuthorizationToken, and GetRepositoryEndpoint for endpoints that are not cached."""
    domain: dict[str, str | int] = {"domain": spec.domain}
    if spec.domain_owner:
        domain["domainOwner"] = spec.domain_owner
    # The endpoints come first: a failure after GetAuthorizationToken would leave a valid but unused token.
    endpoints = []
    for repository in spec.repositories or ():
        endpoint_type = {"endpointType": repository.endpoint_type} if repository.endpoint_type else {}
        for name in dict.fromkeys(repository.formats):
            parameters = domain | {"repository": repository.repository, "format": name} | endpoint_type
            url = await _endpoint_url(call, values, parameters)
            endpoints.append(PackageEndpoint(name, repository.repository, url))
    seconds = {} if spec.duration_seconds is None else {"durationSeconds": spec.duration_seconds}
    operation, signer = _GET_TOKEN.for_resource(f"domain {spec.domain}"), values.signing_credentials
    response = await call.call_aws(operation, domain | seconds, signer, principal=values.principal)
    token = require_safe(member(operation, response.members, "authorizationToken"), "CodeArtifact's token")
    expires_at = expiration(operation, response.members, "expiration")
    response.require_unexpired(operation, "a token", expires_at)
    return replace(
        values,
        access_token=Token(token, expires_at, response.clock_lag),
        package_endpoints=(*values.package_endpoints, *endpoints),
        request_id=response.request_id,
    )


async def _endpoint_url(call: Call, values: PipelineValues, parameters: dict[str, str | int]) -> str:
    key = (call.region, *map(str, parameters.items()))
    cache, url = call.context.endpoints, call.context.endpoints.get(key)
    if url is None:
        signer, principal = values.signing_credentials, values.principal
        operation = _GET_ENDPOINT.for_resource(f"repository {parameters['repository']}")
        response = await call.call_aws(operation, parameters, signer, principal=principal)
        url = require_safe(member(operation, response.members, "repositoryEndpoint"), "CodeArtifact's endpoint")
    # Not cached without domainOwner: the domain is then the caller's own, which differs from caller to caller.
    if "domainOwner" in parameters:
        cache.put(key, url)
    return url
