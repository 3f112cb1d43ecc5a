"""Rules about CodeArtifact repositories and the formats of package managers."""

from collections.abc import Iterator
from typing import Any

from keyturn.api.base import Rule
from keyturn.api.exchanges.codeartifact import CodeArtifactGetAuthorizationTokenSpec, Repository
from keyturn.api.rules.formats import chosen, contained, placeholder, produced_rule
from keyturn.api.rules.names import PRODUCE, earlier, has_producer, pipeline

# The formats of package managers, with CodeArtifact's name for their package format.
PACKAGE_FORMATS = {"pip": "pypi", "npm": "npm", "maven": "maven"}
HAS_REPOSITORIES = "has(x.codeArtifactGetAuthorizationToken) && has(x.codeArtifactGetAuthorizationToken.repositories)"
ONE_REPOSITORY = " && ".join(
    f"""(
        !has(f.{name}) || self.exchanges.exists(x, {HAS_REPOSITORIES} &&
            x.codeArtifactGetAuthorizationToken.repositories.exists_one(r, '{package_format}' in r.formats &&
                (!has(f.{name}.repository) || f.{name}.repository == r.repository)))
    )"""
    for name, package_format in PACKAGE_FORMATS.items()
)


def _repositories(spec: Any) -> Iterator[tuple[Repository, ...]]:
    for exchange, _ in pipeline(spec):
        if isinstance(exchange, CodeArtifactGetAuthorizationTokenSpec):
            yield exchange.repositories or ()


def _has_one_repository(spec: Any, name: str, repository: str | None) -> bool:
    package_format = PACKAGE_FORMATS[name]
    return any(
        sum(package_format in it.formats and repository in (None, it.repository) for it in repositories) == 1
        for repositories in _repositories(spec)
    )


def _has_one_endpoint(spec: Any) -> bool:
    return any(sum(len(it.formats) for it in repositories) == 1 for repositories in _repositories(spec))


def _keeps_token(spec: Any) -> bool:
    return not any(
        has_producer([exchange], "token") and has_producer(before, "packageEndpoints")
        for exchange, before in pipeline(spec)
    )


PACKAGE_RULES = (
    produced_rule("packageEndpoints", "package endpoints"),
    Rule(
        message="package formats use the token that is issued with the endpoints as the password: no later exchange may"
        " produce a token",
        cel=f"""
            !steps.exists(i, x, x in {PRODUCE["token"]} && {earlier(PRODUCE["packageEndpoints"])}) ||
            !{contained("packageEndpoints")}
        """,
        is_met_by=lambda spec: not chosen(spec, "packageEndpoints") or _keeps_token(spec),
    ),
    Rule(
        message="formats pip, npm and maven require exactly one matching CodeArtifact repository: set `repository`, or"
        " list only one with that package format",
        cel=f"""
            !formats.exists(f, f in {[*PACKAGE_FORMATS]}) || self.target.formats.all(f, {ONE_REPOSITORY})
        """,
        is_met_by=lambda spec: all(
            _has_one_repository(spec, choice.name, choice.options.repository)
            for choice in spec.formats
            if choice.name in PACKAGE_FORMATS
        ),
    ),
    Rule(
        message="packageEndpoint in a template requires exactly one CodeArtifact repository with one package format",
        cel=f"""
            !('template' in formats) || self.target.formats.all(f,
                !has(f.template) || !f.template.text.matches({placeholder(["packageEndpoint"])}) ||
                self.exchanges.exists(x, {HAS_REPOSITORIES} &&
                    x.codeArtifactGetAuthorizationToken.repositories.size() == 1 &&
                    x.codeArtifactGetAuthorizationToken.repositories[0].formats.size() == 1))
        """,
        is_met_by=lambda spec: (
            not any(choice.template and "packageEndpoint" in choice.template.names for choice in spec.formats)
            or _has_one_endpoint(spec)
        ),
    ),
)
