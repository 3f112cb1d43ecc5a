"""Specs with CodeArtifact and ECR."""

from typing import Any

from tests.support.manifests.parts import assume, formats, with_user_keys


def artifact(**changes: Any) -> dict[str, Any]:
    fields = {"domain": "acme"} | changes
    step = {"codeArtifactGetAuthorizationToken": {key: value for key, value in fields.items() if value is not None}}
    return with_user_keys(step, **formats({"token": {}}))


def repository(**changes: Any) -> dict[str, Any]:
    return artifact(repositories=[{"repository": "packages", "formats": ["pypi"]} | changes])


def ecr(**changes: Any) -> dict[str, Any]:
    return with_user_keys({"ecrGetAuthorizationToken": changes})


_KINDS = ["npm", "pypi", "maven", "nuget", "generic", "ruby", "swift", "cargo"]
GOOD: dict[str, dict[str, Any]] = {
    "domain": artifact(),
    "domain with all fields": artifact(
        domain="a" + "-" * 48 + "b",
        domainOwner="111122223333",
        durationSeconds=43200,
        repositories=[
            {"repository": "a.b_c-D" + "9" * 93, "formats": _KINDS, "endpointType": "dualstack"},
            {"repository": "pp", "formats": ["npm"], "endpointType": "ipv4"},
        ],
        region="eu-west-1",
    ),
    "package token as long as the session, with a long renewBefore": artifact(durationSeconds=0)
    | {"renewal": {"renewBefore": "13h"}},
    "package token for 15 minutes": artifact(durationSeconds=900),
    "registry": ecr(),
    "registries by account": ecr(registryIds=["111122223333"] * 10, public=False),
    "public registry": ecr(public=True, region="eu-west-1"),
    "registry with more hosts": ecr(
        hosts=["111122223333.dkr-ecr.eu-west-1.on.aws", "111122223333.dkr.ecr-fips.eu-west-1.amazonaws.com"]
    ),
    "public registry with its other host": ecr(public=True, hosts=["ecr-public.aws.com"]),
    "hosts with a port, a path and wildcards": ecr(
        hosts=["127.0.0.1:5000", "[::1]:5000/a", "*.dkr.ecr.*.amazonaws.com"]
    ),
    "registries of a role": with_user_keys(
        assume(), {"ecrGetAuthorizationToken": {}}, {"ecrGetAuthorizationToken": {"public": True}}
    ),
}

BAD: dict[str, dict[str, dict[str, Any]]] = {
    "domain": {"no domain": artifact(domain=None)},
    "codeArtifactGetAuthorizationToken.domain": {
        "domain of one letter": artifact(domain="a"),
        "domain of 51 letters": artifact(domain="a" * 51),
        "domain with a capital letter": artifact(domain="Acme"),
        "domain that ends with a hyphen": artifact(domain="acme-"),
    },
    "domainOwner": {
        "owner with hyphens": artifact(domainOwner="1111-2222-33"),
        "owner of 13 digits": artifact(domainOwner="1" * 13),
    },
    "durationSeconds must be 0, or 900 to 43200": {
        "package token for a minute": artifact(durationSeconds=60),
        "package token for 899 s": artifact(durationSeconds=899),
    },
    "durationSeconds": {
        "package token over 12 hours": artifact(durationSeconds=43201),
        "negative durationSeconds of a package token": artifact(durationSeconds=-1),
    },
    "renewal.renewBefore must be shorter": {
        "renewBefore as long as a package token": artifact(durationSeconds=900) | {"renewal": {"renewBefore": "15m"}}
    },
    "credentials are missing: set source.credentials": {
        "package token without credentials": artifact()
        | {"source": {"token": {"secretKeyRef": {"name": "license", "key": "token"}}}},
        "registry without credentials": {"exchanges": [{"ecrGetAuthorizationToken": {}}]},
    },
    "repositories[0].repository": {
        "repository of one letter": repository(repository="p"),
        "repository with a slash": repository(repository="a/b"),
    },
    "repositories[0].formats": {
        "repository with no package formats": repository(formats=[]),
        "repository with an unknown package format": repository(formats=["conda"]),
    },
    "repositories[0].endpointType": {"endpointType ipv6": repository(endpointType="ipv6")},
    "repository": {"repository without a name": artifact(repositories=[{"formats": ["npm"]}])},
    "ecrGetAuthorizationToken.registryIds": {
        "empty registryIds": ecr(registryIds=[]),
        "registryIds with a host name": ecr(registryIds=["111122223333.dkr.ecr.us-east-1.amazonaws.com"]),
    },
    "must be a registry host as in image names": {
        "host with a space": ecr(hosts=["a b"]),
        "host with a quote": ecr(hosts=['a"']),
    },
    "ecrGetAuthorizationToken.hosts": {"empty hosts": ecr(hosts=[]), "17 hosts": ecr(hosts=["a"] * 17)},
    "registryIds cannot be combined with public: true": {
        "registryIds of the public registry": ecr(registryIds=["111122223333"], public=True)
    },
}
