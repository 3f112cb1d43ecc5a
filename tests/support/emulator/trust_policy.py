"""Trust policies: which principals can assume a role."""

import re
from typing import Literal

import msgspec

Operator = Literal["Bool", "StringEquals", "StringLike", "ForAnyValue:StringEquals", "ForAnyValue:StringLike"]
PrincipalType = Literal["AWS", "Federated"]
# The names of a caller: a role session also has those of its role and its account.
Principals = dict[PrincipalType, set[str]]
ConditionContext = dict[str, list[str]]


class Statement(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    """A statement; policy elements that the emulator does not implement are rejected when the role is created."""

    effect: Literal["Allow", "Deny"]
    principal: dict[PrincipalType, str | list[str]]
    action: str | list[str]
    condition: dict[Operator, dict[str, str | list[str]]] = {}
    sid: str = ""

    def applies(self, action: str, principals: Principals, context: ConditionContext) -> bool:
        return (
            action in _as_list(self.action)
            and any(names & {*_as_list(self.principal.get(kind, []))} for kind, names in principals.items())
            and all(
                _matches(operator, context.get(key, []), _as_list(patterns))
                for operator, keys in self.condition.items()
                for key, patterns in keys.items()
            )
        )


class TrustPolicy(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    """The policy document of a role."""

    version: Literal["2012-10-17"]
    statement: list[Statement]

    def allows(self, action: str, principals: Principals, context: ConditionContext) -> bool:
        """Evaluate as IAM does: an explicit Deny wins, and without an Allow access is denied."""
        return {it.effect for it in self.statement if it.applies(action, principals, context)} == {"Allow"}


def _matches(operator: str, values: list[str], patterns: list[str]) -> bool:
    quantifier, _, comparison = operator.rpartition(":")
    matches = [any(_compare(comparison, value, pattern) for pattern in patterns) for value in values]
    # Without a quantifier IAM compares a single value: none and several do not match.
    return any(matches) if quantifier == "ForAnyValue" else matches == [True]


def _compare(comparison: str, value: str, pattern: str) -> bool:
    if comparison in {"Bool", "StringEquals"}:
        return value == pattern
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), value) is not None


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
