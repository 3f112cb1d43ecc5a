"""Patterns in the settings that say who may use the operator's own AWS identity."""

import pytest

from keyturn.core.settings import AmbientRule

ROLE = "arn:aws:iam::111122223333:role/"


@pytest.mark.parametrize(
    ("pattern", "name", "is_met"),
    [
        ("tenant-1", "tenant-1", True),
        ("tenant-1", "tenant-10", False),
        ("*", "tenant-1", True),
        ("*", "", True),
        ("**", "a", True),
        ("tenant-*", "tenant-", True),
        ("tenant-*", "tenan", False),
        ("*-prod", "a-prod", True),
        ("*-prod", "a-prod-b", False),
        ("a*a", "aa", True),
        ("a*a", "a", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("a*bc*c", "abc", False),
        ("a.c", "abc", False),
        ("a[b]?", "a[b]?", True),
    ],
)
def test_asterisk_matches_any_characters(pattern: str, name: str, *, is_met: bool) -> None:
    role_rule = AmbientRule(namespaces=("*",), roles=(ROLE + pattern,))
    namespace_rule = AmbientRule(namespaces=(pattern,), roles=("*",))

    assert role_rule.is_met_by("billing", ROLE + name) is is_met
    assert namespace_rule.is_met_by(name, ROLE) is is_met


def test_many_asterisks_are_matched_without_backtracking() -> None:
    rule = AmbientRule(namespaces=("*",), roles=("*a" * 1023 + "*b",))

    assert not rule.is_met_by("billing", "a" * 2048)
