"""Trust policies: which principals can assume a role."""

import re
from typing import Literal

import msgspec

Operator = Literal["Bool", "StringEquals", "ForAnyValue:StringLike"]
PrincipalType = Literal["AWS", "Federated", "Service"]
# The names of a caller: a role session also has those of its role and its account.
Principals = dict[PrincipalType, set[str]]
ConditionContext = dict[str, list[str]]


class Statement(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    """A statement; policy elements that the emulator does not implement are rejected when the role is created."""

    effect: Literal["Allow"]
    principal: dict[PrincipalType, str | list[str]]
    action: str | list[str]
    condition: dict[Operator, dict[str, str | list[str]]] = {}

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
    version: Literal["2012-10-17"]
    statement: list[Statement]

    def allows(self, action: str, principals: Principals, context: ConditionContext) -> bool:
        return any(it.applies(action, principals, context) for it in self.statement)


def _matches(operator: Operator, values: list[str], patterns: list[str]) -> bool:
    if operator == "ForAnyValue:StringLike":
        regex = "|".join(re.escape(pattern).replace(r"\*", ".*") for pattern in patterns)
        return any(re.fullmatch(regex, value) for value in values)
    # Without a quantifier IAM compares a single value: none and several do not match.
    return len(values) == 1 and values[0] in patterns


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
