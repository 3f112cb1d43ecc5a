"""Rules between formats and exchanges: the exchanges must produce the values that each format contains."""

from collections.abc import Iterable, Iterator
from typing import Any

from keyturn.api.base import Kind, Rule
from keyturn.api.exchanges.codeartifact import CodeArtifactGetAuthorizationTokenSpec, Repository
from keyturn.api.formats.registry import FORMATS, FormatSpec
from keyturn.api.formats.template import EXPIRING_NAMES, NAMES
from keyturn.api.rules.names import HAS_SOURCE_TOKEN, PRODUCE, earlier, has_producer, pipeline

FORMATS_WITH_EXPIRING_VALUE = [name for name, options in FORMATS.items() if options.WRITES]


def formats_with(kind: Kind) -> list[str]:
    """Return the names of the formats that contain a kind of value, except for template."""
    return [name for name, options in FORMATS.items() if kind in options.WRITES]


def names_of(kind: Kind) -> list[str]:
    """Return the names of the placeholders in a template for a kind of value."""
    return [name for name, named_kind in NAMES.items() if named_kind == kind]


def placeholder(names: Iterable[str]) -> str:
    """CEL: a regular expression for a placeholder with one of these names."""
    return rf"r'\{{\{{ *(?:{'|'.join(names)}) *\}}\}}'"


def template_with(names: Iterable[str]) -> str:
    """CEL: a template contains a placeholder with one of these names."""
    return f"""(
        'template' in formats &&
        self.target.formats.exists(f, has(f.template) && f.template.text.matches({placeholder(names)}))
    )"""


def contained(kind: Kind) -> str:
    """CEL: a format contains a kind of value."""
    return f"(formats.exists(f, f in {formats_with(kind)}) || {template_with(names_of(kind))})"


def chosen(spec: Any, kind: Kind) -> list[FormatSpec]:
    """Return the formats in a spec that contain a kind of value."""
    return [choice for choice in (spec.target and spec.target.formats) or () if kind in choice.options.kinds]


def _is_produced_if_chosen(spec: Any, kind: Kind) -> bool:
    return not chosen(spec, kind) or has_producer((step.exchange for step in spec.exchanges), kind)


def produced_rule(kind: Kind, text: str) -> Rule:
    """Return the rule that an exchange must produce what the formats contain. The message calls that kind `text`."""
    return Rule(
        message=f"formats that contain {text} require one of these exchanges: {', '.join(PRODUCE[kind])}",
        cel=f"steps.exists(x, x in {PRODUCE[kind]}) || !{contained(kind)}",
        is_met_by=lambda spec: _is_produced_if_chosen(spec, kind),
    )


FORMAT_RULES = (
    produced_rule("credentials", "credentials"),
    Rule(
        message="formats that contain a token require source.token (except for templates) or one of these exchanges: "
        + ", ".join(PRODUCE["token"]),
        cel=f"""
            steps.exists(x, x in {PRODUCE["token"]}) || !(
                (!({HAS_SOURCE_TOKEN}) && formats.exists(f, f in {formats_with("token")})) ||
                {template_with(names_of("token"))})
        """,
        is_met_by=lambda spec: (
            _is_produced_if_chosen(spec, "token")
            or (spec.source.token is not None and not any(choice.template for choice in chosen(spec, "token")))
        ),
    ),
    produced_rule("registryLogins", "registry logins"),
)
TEMPLATE_RULES = (
    Rule(
        message="a template contains region, but spec.region is not set",
        cel=f"has(self.region) || !{template_with(['region'])}",
        is_met_by=lambda spec: bool(
            spec.region or not any(choice.template and "region" in choice.template.names for choice in spec.formats)
        ),
    ),
    Rule(
        message="at least one format must contain a value that expires (credentials, token or registry login)",
        cel=f"""
            formats.size() == 0 ||
            formats.exists(f, f in {FORMATS_WITH_EXPIRING_VALUE}) || {template_with(EXPIRING_NAMES)}
        """,
        is_met_by=lambda spec: any(choice.options.has_expiring_value for choice in spec.formats),
    ),
)

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


PACKAGE_RULES = (
    produced_rule("packageEndpoints", "package endpoints"),
    Rule(
        message="package formats use the token that is issued with the endpoints as the password: no later exchange may"
        " produce a token",
        cel=f"""
            !steps.exists(i, x, x in {PRODUCE["token"]} && {earlier(PRODUCE["packageEndpoints"])}) ||
            !{contained("packageEndpoints")}
        """,
        is_met_by=lambda spec: (
            not chosen(spec, "packageEndpoints")
            or not any(
                "token" in exchange.PRODUCES and has_producer(before, "packageEndpoints")
                for exchange, before in pipeline(spec)
            )
        ),
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
            or any(sum(len(it.formats) for it in repositories) == 1 for repositories in _repositories(spec))
        ),
    ),
)
