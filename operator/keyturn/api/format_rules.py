"""The rules between formats and exchanges: what is written must be given, and belong together."""

from collections.abc import Iterable
from typing import Any

from keyturn.api.base import Kind, Rule, member_in_cel
from keyturn.api.cel import PRODUCERS, before, produces
from keyturn.api.formats.registry import FORMATS, FormatSpec
from keyturn.api.formats.template import ENDING, NAMES, names_in_cel

# The names of the formats.
WRITTEN = (
    f"has(self.target) && has(self.target.formats) ? self.target.formats.map(f, {member_in_cel(FORMATS, 'f')}) : []"
)


def _written(holders: list[str], named: Iterable[str], also: str = "") -> str:
    """Whether there is one of these formats, and `also` holds, or a template with one of these names, in CEL."""
    in_text = f"has(f.template) && {names_in_cel(named)}"
    by_template = f"('template' in formats && self.target.formats.exists(f, {in_text}))"
    return f"(({also}formats.exists(f, f in {holders})) || {by_template})"


def _holds(kind: Kind, also: str = "") -> str:
    holders = [name for name, one in FORMATS.items() if kind in one.WRITES]
    return _written(holders, [name for name, of in NAMES.items() if of == kind], also)


def _holding(spec: Any, kind: Kind) -> list[FormatSpec]:
    return [wanted for wanted in (spec.target and spec.target.formats) or () if kind in wanted.options.holds]


def _are_given(spec: Any, kind: Kind) -> bool:
    wanted = _holding(spec, kind)
    # The source token may be written as a token; it is none of the values that a template can name.
    from_source = kind == "token" and spec.source.token and not any(one.template for one in wanted)
    return not wanted or bool(from_source) or produces(spec.exchanges, kind)


def _keep_their_token(spec: Any) -> bool:
    given = [exchange.exchange.PRODUCES for exchange in spec.exchanges]
    first = next((place for place, kinds in enumerate(given) if "packageEndpoints" in kinds), len(given))
    return not _holding(spec, "packageEndpoints") or not any("token" in kinds for kinds in given[first + 1 :])


# By format: CodeArtifact's word for the repositories that it writes.
_OF_KIND = {"pip": "pypi", "npm": "npm", "maven": "maven"}
_PACKAGES = "x.codeArtifactGetAuthorizationToken"
_LISTED = f"self.exchanges.exists(x, has({_PACKAGES}) && has({_PACKAGES}.repositories) && "
_ONLY_ONE = f"{_PACKAGES}.repositories.size() == 1 && {_PACKAGES}.repositories[0].formats.size() == 1"
_NAMES_ENDPOINT = names_in_cel(["packageEndpoint"])
_FOUND_IN_CEL = f"(!has(f.template) || !{_NAMES_ENDPOINT} || {_LISTED}{_ONLY_ONE})) && " + " && ".join(
    f"(!has(f.{name}) || {_LISTED}{_PACKAGES}.repositories.exists_one(r, '{kind}' in r.formats && "
    f"(!has(f.{name}.repository) || f.{name}.repository == r.repository))))"
    for name, kind in _OF_KIND.items()
)


def _finds_one(spec: Any, wanted: FormatSpec) -> bool:
    """Whether there is no doubt which repository a format is of."""
    kind = _OF_KIND.get(wanted.name)
    if not kind and not (wanted.template and "packageEndpoint" in wanted.template.names):
        return True
    named = getattr(wanted.options, "repository", None)
    return any(len(_repositories(one.exchange, kind, named)) == 1 for one in spec.exchanges)


def _repositories(step: Any, kind: str | None, named: str | None) -> list[str]:
    """The repositories of a step: all kinds, or each that is of this kind, and has this name if there is one."""
    listed = getattr(step, "repositories", None) or ()
    if kind is None:
        return [name for one in listed for name in one.formats]
    return [one.repository for one in listed if kind in one.formats and named in (None, one.repository)]


def _given_rule(kind: Kind, also: str = "") -> Rule:
    return Rule(
        message=f"a format that holds {kind} needs an exchange that gives them: {' or '.join(PRODUCERS[kind])}",
        cel=f"steps.exists(x, x in {PRODUCERS[kind]}) || !{_holds(kind, also)}",
        is_met_by=lambda spec: _are_given(spec, kind),
    )


_END = [name for name, one in FORMATS.items() if one.WRITES]
FORMAT_RULES = (
    _given_rule("credentials"),
    _given_rule("token", "!has(self.source.token) && "),
    _given_rule("registryLogins"),
)
PACKAGE_RULES = (
    _given_rule("packageEndpoints"),
    Rule(
        message="the password of package endpoints is the token given with them: no later exchange may give a token",
        cel=f"!steps.exists(i, x, x in {PRODUCERS['token']} && {before(PRODUCERS['packageEndpoints'])})"
        f" || !{_holds('packageEndpoints')}",
        is_met_by=_keep_their_token,
    ),
    Rule(
        message="region in a template is spec.region, which is not there",
        cel="has(self.region) || !('template' in formats) || "
        f"!self.target.formats.exists(f, has(f.template) && {names_in_cel(['region'])})",
        is_met_by=lambda spec: bool(
            spec.region or not any(one.template and "region" in one.template.names for one in spec.formats)
        ),
    ),
    Rule(
        message="formats write nothing that ends, so it could not be renewed in time: add credentials, a token or a"
        " registry login",
        cel=f"formats.size() == 0 || {_written(_END, ENDING)}",
        is_met_by=lambda spec: any(one.options.ends for one in spec.formats),
    ),
    Rule(
        message="pip, npm and maven need one repository of their kind: name by `repository` one that is listed in"
        " codeArtifactGetAuthorizationToken, or list only one; packageEndpoint in a template needs the only one",
        cel=f"!formats.exists(f, f in {[*_OF_KIND, 'template']}) || self.target.formats.all(f, {_FOUND_IN_CEL})",
        is_met_by=lambda spec: all(_finds_one(spec, one) for one in spec.formats),
    ),
)
