"""AWS CodeArtifact: credentials for a token, and where the repositories are that it opens."""

from collections.abc import Iterator
from dataclasses import replace

from keyturn.api.exchanges.codeartifact import CodeArtifactGetAuthorizationTokenSpec
from keyturn.api.times import whole
from keyturn.core.pipeline_values import Credentials, PackageEndpoint, PipelineValues, Token, safe
from keyturn.exchanges.aws_errors import SIGNED, AwsOperation, ErrorClassification, member
from keyturn.exchanges.context import Call

_KNOWN = 10_000
_CLASSIFICATIONS = SIGNED | {
    "ConflictException": ErrorClassification("Unavailable"),
    "InternalServerException": ErrorClassification("Unavailable"),
    "ResourceNotFoundException": ErrorClassification(
        "InvalidSpec", hint="is there such a domain of that owner, and such a repository, in this region?"
    ),
}
_GET_TOKEN = AwsOperation(
    exchange="codeArtifactGetAuthorizationToken",
    service="codeartifact",
    name="get_authorization_token",
    title="CodeArtifact GetAuthorizationToken",
    classifications=_CLASSIFICATIONS
    | {
        "AccessDeniedException": ErrorClassification(
            "AccessDenied",
            hint="may the caller codeartifact:GetAuthorizationToken and sts:GetServiceBearerToken?",
            eventually_consistent=True,
        ),
        "ValidationException": ErrorClassification(
            "InvalidSpec", hint="is durationSeconds right? 0 is only for credentials of a role"
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
        "AccessDeniedException": ErrorClassification(
            "AccessDenied", hint="may the caller codeartifact:GetRepositoryEndpoint?", eventually_consistent=True
        ),
        "ValidationException": ErrorClassification("InvalidSpec", hint="has it endpoints of that format and type?"),
    },
)


async def get_authorization_token(
    call: Call, wanted: CodeArtifactGetAuthorizationTokenSpec, held: PipelineValues
) -> PipelineValues:
    """Call codeartifact GetAuthorizationToken, and GetRepositoryEndpoint for what is not known yet."""
    signer = held.own_credentials
    seconds = {} if wanted.duration_seconds is None else {"durationSeconds": wanted.duration_seconds}
    # First the endpoints: a token that is made and then lost stays valid.
    endpoints = [await _endpoint(call, signer, parameters) for parameters in _wanted_endpoints(wanted)]
    response = await call.context.aws.call(_GET_TOKEN, call.region, _domain(wanted) | seconds, signer)
    token = safe(member(_GET_TOKEN, response.members, "authorizationToken"), "CodeArtifact's token")
    return replace(
        held,
        access_token=Token(token, whole(member(_GET_TOKEN, response.members, "expiration"))),
        package_endpoints=(*held.package_endpoints, *endpoints),
        request_id=response.request_id,
    )


def _domain(wanted: CodeArtifactGetAuthorizationTokenSpec) -> dict[str, str | int]:
    owner = {"domainOwner": wanted.domain_owner} if wanted.domain_owner else {}
    return {"domain": wanted.domain, **owner}


def _wanted_endpoints(wanted: CodeArtifactGetAuthorizationTokenSpec) -> Iterator[dict[str, str | int]]:
    for one in wanted.repositories or ():
        kind = {"endpointType": one.endpoint_type} if one.endpoint_type else {}
        for name in dict.fromkeys(one.formats):
            yield _domain(wanted) | {"repository": one.repository, "format": name} | kind


async def _endpoint(call: Call, signer: Credentials, parameters: dict[str, str | int]) -> PackageEndpoint:
    key = (call.region, *map(str, parameters.items()))
    known, url = call.context.endpoints, call.context.endpoints.get(key)
    if url is None:
        response = await call.context.aws.call(_GET_ENDPOINT, call.region, parameters, signer)
        url = safe(member(_GET_ENDPOINT, response.members, "repositoryEndpoint"), "CodeArtifact's endpoint")
    # Without an owner it is the caller's own domain: another caller's is another.
    if "domainOwner" in parameters and len(known) < _KNOWN:
        known[key] = url
    return PackageEndpoint(str(parameters["format"]), str(parameters["repository"]), url)
