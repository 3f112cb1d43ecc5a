"""AWS CodeArtifact: authorization tokens of a domain and the endpoints of its repositories."""

from datetime import datetime
from typing import Any

from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call, Service
from tests.support.emulator.state import random_secret

_DEFAULT_SECONDS = 43200
_MIN_SECONDS = 900


def get_authorization_token(call: Call) -> dict[str, Any]:
    """GetAuthorizationToken: the token outlives the session unless `durationSeconds` is 0."""
    _check_domain(call)
    expires_at = _expiry(call)
    token = random_secret(600).replace("=", "")
    call.state.package_tokens[token] = expires_at
    call.state.record_secrets(token)
    return {"authorizationToken": token, "expiration": expires_at}


def _expiry(call: Call) -> datetime:
    seconds = call.params.get("durationSeconds", _DEFAULT_SECONDS)
    if 0 < seconds < _MIN_SECONDS:
        raise _invalid(f"durationSeconds must be 0 or {_MIN_SECONDS} to {_DEFAULT_SECONDS}")
    if seconds:
        return call.expiry(seconds)
    if call.signer.expires_at is None:
        raise _invalid("durationSeconds may be 0 only for temporary credentials")
    return call.signer.expires_at


def get_repository_endpoint(call: Call) -> dict[str, Any]:
    domain, owner = _check_domain(call)
    repository, package_format = call.params["repository"], call.params["format"]
    if repository not in call.state.domains[domain]:
        raise _not_found("repository", repository)
    suffix = "on.aws" if call.params.get("endpointType") == "dualstack" else "amazonaws.com"
    root = f"https://{domain}-{owner}.d.codeartifact.{call.region}.{suffix}"
    root = call.state.settings.registry_url or root
    return {"repositoryEndpoint": f"{root}/{package_format}/{repository}/"}


def _check_domain(call: Call) -> tuple[str, str]:
    domain, account = call.params["domain"], call.signer.principal.account
    owner = call.params.get("domainOwner", account)
    if domain not in call.state.domains or owner != account:
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
