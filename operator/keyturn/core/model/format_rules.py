"""The rules between formats and exchanges: what is written must be given, and belong together."""

from typing import Any

from keyturn.core.model.formats import Format, holders_in_cel, names_in_cel
from keyturn.core.model.part import Kind, Rule
from keyturn.core.model.steps import GIVE, any_of, gives


def _unless_written(kind: Kind, also: str = "") -> str:
    """The test whether no format holds a kind, in CEL; `also` weakens it for those that always do."""
    named = f"has(f.template) && {names_in_cel(kind, 'f.template.text')}"
    holding = f"({also}{holders_in_cel(kind, 'f')}) || ({named})"
    return f"!has(self.target) || !has(self.target.formats) || !self.target.formats.exists(f, {holding})"


def _holding(spec: Any, kind: Kind) -> list[Format]:
    return [wanted for wanted in (spec.target and spec.target.formats) or () if kind in wanted.options.holds]


def _are_given(spec: Any, kind: Kind) -> bool:
    wanted = _holding(spec, kind)
    # The source token may be written as a token; it is none of the values that a template can name.
    from_source = kind == "token" and spec.source.token and not any(one.template for one in wanted)
    return not wanted or bool(from_source) or gives(spec.exchanges, kind)


def _keep_their_token(spec: Any) -> bool:
    given = [exchange.operation.GIVES for exchange in spec.exchanges]
    first = next((place for place, kinds in enumerate(given) if "packageEndpoints" in kinds), len(given))
    return not _holding(spec, "packageEndpoints") or not any("token" in kinds for kinds in given[first + 1 :])


def _given_rule(kind: Kind, also: str = "") -> Rule:
    return Rule(
        says=f"a format that holds {kind} needs an exchange that gives them: {' or '.join(GIVE[kind])}",
        cel=f"self.exchanges.exists(x, {any_of(GIVE[kind], 'x')}) || {_unless_written(kind, also)}",
        holds=lambda spec: _are_given(spec, kind),
    )


FORMAT_RULES = (
    _given_rule("credentials"),
    _given_rule("token", "!has(self.source.token) && "),
    _given_rule("registryLogins"),
    _given_rule("packageEndpoints"),
    Rule(
        says="the password of package endpoints is the token given with them: no later exchange may give a token",
        cel=f"!self.exchanges.exists(i, x, {any_of(GIVE['token'], 'x')} && self.exchanges.exists(j, y, j < i && "
        f"{any_of(GIVE['packageEndpoints'], 'y')})) || {_unless_written('packageEndpoints')}",
        holds=_keep_their_token,
    ),
)
