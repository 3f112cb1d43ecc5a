"""AWS CodeArtifact: tokens for the repositories of a domain, and where these are."""

from datetime import datetime
from typing import Any

from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call, Service
from tests.support.emulator.state import secret_text

_DEFAULT_SECONDS = 43200
_LEAST_SECONDS = 900


def get_authorization_token(call: Call) -> dict[str, Any]:
    """Answer GetAuthorizationToken: a token that outlives the session, unless 0 seconds are asked for."""
    _check_domain(call)
    expires_at = _expiry(call)
    token = secret_text(600).replace("=", "")
    call.world.package_tokens[token] = expires_at
    call.world.remember(token)
    return {"authorizationToken": token, "expiration": expires_at}


def _expiry(call: Call) -> datetime:
    seconds = call.params.get("durationSeconds", _DEFAULT_SECONDS)
    if 0 < seconds < _LEAST_SECONDS:
        raise _invalid(f"durationSeconds must be 0 or {_LEAST_SECONDS} to {_DEFAULT_SECONDS}")
    if seconds:
        return call.expiry(min(seconds, call.world.settings.package_token_seconds))
    if call.signer.expires_at is None:
        raise _invalid("durationSeconds may be 0 only for temporary credentials")
    return call.signer.expires_at


def get_repository_endpoint(call: Call) -> dict[str, Any]:
    """Answer GetRepositoryEndpoint: one for each format of a repository."""
    domain, owner = _check_domain(call)
    repository, wanted = call.params["repository"], call.params["format"]
    if repository not in call.world.domains[domain]:
        raise _not_found("repository", repository)
    host = f"https://{domain}-{owner}.d.codeartifact.{call.region}"
    dualstack = call.params.get("endpointType") == "dualstack"
    root = call.world.settings.registry_url or f"{host}.{'on.aws' if dualstack else 'amazonaws.com'}"
    return {"repositoryEndpoint": f"{root}/{wanted}/{repository}/"}


def _check_domain(call: Call) -> tuple[str, str]:
    domain, account = call.params["domain"], call.signer.principal.account
    owner = call.params.get("domainOwner", account)
    if domain not in call.world.domains or owner != account:
        raise _not_found("domain", domain)
    return domain, owner


def _not_found(kind: str, name: str) -> AwsError:
    members = {"resourceId": name, "resourceType": kind}
    return AwsError("ResourceNotFoundException", f"{kind} not found: {name}", 404, **members)


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationException", message, 400, reason="FIELD_VALIDATION_FAILED")


SERVICE = Service(
    "codeartifact",
    {"GetAuthorizationToken": get_authorization_token, "GetRepositoryEndpoint": get_repository_endpoint},
    prefix="codeartifact:",
)
