"""A role's trust policy: who may become the role."""

import re
from typing import Literal

import msgspec

Operator = Literal["Bool", "StringEquals", "StringLike", "ForAnyValue:StringEquals", "ForAnyValue:StringLike"]
Kind = Literal["AWS", "Federated"]
# The names that a caller goes by: a role session, for one, is also its role and its account.
Principals = dict[Kind, set[str]]
Context = dict[str, list[str]]


class Statement(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    """One statement; a part of the language that is not here is refused when the role is made."""

    effect: Literal["Allow", "Deny"]
    principal: dict[Kind, str | list[str]]
    action: str | list[str]
    condition: dict[Operator, dict[str, str | list[str]]] = {}
    sid: str = ""


class TrustPolicy(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    """The policy document of a role."""

    version: Literal["2012-10-17"]
    statement: list[Statement]

    def allows(self, action: str, principals: Principals, context: Context) -> bool:
        """Answer as IAM does: a matching Deny wins, no matching Allow is a no."""
        effects = {s.effect for s in self.statement if _applies(s, action, principals, context)}
        return effects == {"Allow"}


def _applies(statement: Statement, action: str, principals: Principals, context: Context) -> bool:
    return (
        action in _words(statement.action)
        and any(
            name in _words(statement.principal.get(kind, []))
            for kind, names in principals.items()
            for name in names
        )
        and all(
            _holds(operator, context.get(key, []), _words(wanted))
            for operator, keys in statement.condition.items()
            for key, wanted in keys.items()
        )
    )


def _holds(operator: str, values: list[str], wanted: list[str]) -> bool:
    quantifier, _, comparison = operator.rpartition(":")
    matches = [any(_same(comparison, value, pattern) for pattern in wanted) for value in values]
    if quantifier == "ForAnyValue":
        return any(matches)
    # Without a quantifier IAM compares one value; none or several are no match.
    return matches == [True]


def _same(comparison: str, value: str, pattern: str) -> bool:
    if comparison in {"Bool", "StringEquals"}:
        return value == pattern
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), value) is not None


def _words(given: str | list[str]) -> list[str]:
    return [given] if isinstance(given, str) else given
