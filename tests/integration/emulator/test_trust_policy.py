from typing import Any

import msgspec

from tests.support.cases import cases
from tests.support.emulator.constants import LICENSE_PROVIDER, TRUST_POLICY, WEB_IDENTITY_ACTION
from tests.support.emulator.trust_policy import TrustPolicy

AMR = f"{LICENSE_PROVIDER}:amr"
STATEMENT: dict[str, Any] = TRUST_POLICY["Statement"][0] | {"Condition": {}}


def condition(operator: str, value: str | list[str], key: str = AMR) -> list[dict[str, Any]]:
    return [STATEMENT | {"Condition": {operator: {key: value}}}]


@cases(
    "statements, amr, is_allowed",
    {
        "any value matches": (condition("ForAnyValue:StringLike", "on-*"), ["a", "on-1"], True),
        "several values need ForAnyValue": (condition("StringEquals", ["a", "b"]), ["a", "b"], False),
        "one of two patterns": (condition("StringEquals", ["a", "b"]), ["b"], True),
        "StringEquals has no wildcard": (condition("StringEquals", "*"), ["b"], False),
        "unknown key": (condition("StringEquals", "b", "other:amr"), ["b"], False),
        "another provider": ([STATEMENT | {"Principal": {"Federated": "x"}}], [], False),
        "another action": ([STATEMENT | {"Action": "sts:AssumeRole"}], [], False),
    },
)
def test_trust_policy(statements: list[dict[str, Any]], amr: list[str], *, is_allowed: bool) -> None:
    policy = msgspec.convert({**TRUST_POLICY, "Statement": statements}, TrustPolicy)

    assert policy.allows(WEB_IDENTITY_ACTION, {"Federated": {LICENSE_PROVIDER}}, {AMR: amr}) is is_allowed
