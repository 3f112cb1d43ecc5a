"""Specs with CodeArtifact and ECR: those that are taken, and those that are refused, each with the sentence."""

from typing import Any

from tests.support.manifests.parts import assume, formats, of_user

_NO_KEYS = "credentials missing: give source.credentials"


def artifact(**changes: Any) -> dict[str, Any]:
    fields = {"domain": "acme"} | changes
    step = {"codeArtifactGetAuthorizationToken": {key: value for key, value in fields.items() if value is not None}}
    return of_user(step, **formats({"token": {}}))


def repository(**changes: Any) -> dict[str, Any]:
    return artifact(repositories=[{"repository": "packages", "formats": ["pypi"]} | changes])


def ecr(**changes: Any) -> dict[str, Any]:
    return of_user({"ecrGetAuthorizationToken": changes})


_KINDS = ["npm", "pypi", "maven", "nuget", "generic", "ruby", "swift", "cargo"]
GOOD: dict[str, dict[str, Any]] = {
    "a domain": artifact(),
    "a domain with all that can be said": artifact(
        domain="a" + "-" * 48 + "b",
        domainOwner="111122223333",
        durationSeconds=43200,
        repositories=[
            {"repository": "a.b_c-D" + "9" * 93, "formats": _KINDS, "endpointType": "dualstack"},
            {"repository": "pp", "formats": ["npm"], "endpointType": "ipv4"},
        ],
        region="eu-west-1",
    ),
    "a package token as long as the session, renewed early": artifact(durationSeconds=0)
    | {"renewal": {"renewBefore": "13h"}},
    "a package token for 15 minutes": artifact(durationSeconds=900),
    "a registry": ecr(),
    "registries by their accounts": ecr(registryIds=["111122223333"] * 10, public=False),
    "the public registry": ecr(public=True, region="eu-west-1"),
    "registries of a role": of_user(
        assume(), {"ecrGetAuthorizationToken": {}}, {"ecrGetAuthorizationToken": {"public": True}}
    ),
}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no domain": (artifact(domain=None), "domain"),
    "a domain of one letter": (artifact(domain="a"), "codeArtifactGetAuthorizationToken.domain"),
    "a domain of 51 letters": (artifact(domain="a" * 51), "codeArtifactGetAuthorizationToken.domain"),
    "a domain with a capital": (artifact(domain="Acme"), "codeArtifactGetAuthorizationToken.domain"),
    "a domain that ends with a hyphen": (artifact(domain="acme-"), "codeArtifactGetAuthorizationToken.domain"),
    "an owner with hyphens": (artifact(domainOwner="1111-2222-33"), "domainOwner"),
    "an owner of 13 digits": (artifact(domainOwner="1" * 13), "domainOwner"),
    "a package token for a minute": (artifact(durationSeconds=60), "durationSeconds must be 0, or 900 to 43200"),
    "a package token for 899 s": (artifact(durationSeconds=899), "durationSeconds must be 0, or 900 to 43200"),
    "a package token over 12 hours": (artifact(durationSeconds=43201), "durationSeconds"),
    "a package token of less than nothing": (artifact(durationSeconds=-1), "durationSeconds"),
    "a package token that is renewed before it is there": (
        artifact(durationSeconds=900) | {"renewal": {"renewBefore": "15m"}},
        "renewal.renewBefore must be shorter",
    ),
    "a package token without credentials": (
        artifact() | {"source": {"token": {"secretKeyRef": {"name": "license", "key": "token"}}}},
        _NO_KEYS,
    ),
    "eleven repositories": (
        artifact(repositories=[{"repository": "pp", "formats": ["npm"]}] * 11),
        "codeArtifactGetAuthorizationToken.repositories",
    ),
    "a repository of one letter": (repository(repository="p"), "repositories[0].repository"),
    "a repository with a slash": (repository(repository="a/b"), "repositories[0].repository"),
    "a repository of 101 letters": (repository(repository="p" * 101), "repositories[0].repository"),
    "a repository without a format": (repository(formats=[]), "repositories[0].formats"),
    "a repository of conda": (repository(formats=["conda"]), "repositories[0].formats[0]"),
    "a repository by IPv6 alone": (repository(endpointType="ipv6"), "repositories[0].endpointType"),
    "a repository without a name": (artifact(repositories=[{"formats": ["npm"]}]), "repository"),
    "no registries": (ecr(registryIds=[]), "ecrGetAuthorizationToken.registryIds"),
    "eleven registries": (ecr(registryIds=["111122223333"] * 11), "ecrGetAuthorizationToken.registryIds"),
    "a registry by its host": (
        ecr(registryIds=["111122223333.dkr.ecr.us-east-1.amazonaws.com"]),
        "ecrGetAuthorizationToken.registryIds[0]",
    ),
    "a public registry by its account": (
        ecr(registryIds=["111122223333"], public=True),
        "registryIds are of private registries",
    ),
    "a registry without credentials": ({"exchanges": [{"ecrGetAuthorizationToken": {}}]}, _NO_KEYS),
}
