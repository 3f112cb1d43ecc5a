import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.cases import cases
from tests.support.emulator.boto import as_keys, aws_error
from tests.support.emulator.constants import ACCOUNT, ACCOUNT_ROLE_ARN

POLICY = json.dumps({"Version": "2012-10-17", "Statement": []})
POLICY_ARN = f"arn:aws:iam::{ACCOUNT}:policy/"
TAGGED = {"Tags": [{"Key": "Team", "Value": "blue"}], "TransitiveTagKeys": ["Team"]}
LONG_TAGS = [{"Key": f"{n}", "Value": f"{n**99:x}"[:256]} for n in range(2, 52)]
DENIED = ("AccessDenied", 403)
Assume = Callable[..., Any]
NewRole = Callable[..., str]


def tags(count: int = 1, **tag: str) -> list[dict[str, str]]:
    return [{"Key": f"key-{number}", "Value": "", **tag} for number in range(count)]


@cases(
    "changes, code",
    {
        "reserved source identity": ({"SourceIdentity": "aws:x"}, "ValidationError"),
        "policy and ARNs too large": (
            {"Policy": POLICY, "PolicyArns": [{"arn": POLICY_ARN + "x" * 2000}]},
            "PackedPolicyTooLarge",
        ),
        "11 policy ARNs": ({"PolicyArns": [{"arn": POLICY_ARN + "p"}] * 11}, "ValidationError"),
        "51 tags": ({"Tags": tags(51)}, "ValidationError"),
        "tag key with a tab": ({"Tags": tags(Key="a\tb")}, "ValidationError"),
        "reserved tag key": ({"Tags": tags(Key="Aws:x")}, "InvalidParameterValue"),
        "tag keys that differ in case": ({"Tags": tags(Key="a") + tags(Key="A")}, "InvalidParameterValue"),
        "transitive key without a tag": ({"TransitiveTagKeys": ["a"]}, "InvalidParameterValue"),
        "tags too large": ({"Tags": LONG_TAGS}, "PackedPolicyTooLarge"),
    },
)
def test_assume_role_refuses(changes: dict[str, Any], code: str, assume: Assume) -> None:
    assert aws_error(assume, **changes) == (code, 400)


def test_tags_may_contain_letters_of_any_language(assume: Assume) -> None:
    assert assume(Tags=[{"Key": "équipe 東", "Value": "ünï/_1:=+-@."}])["PackedPolicySize"] > 0


@cases(
    "principal, is_trusted",
    {
        "root of the account": (f"arn:aws:iam::{ACCOUNT}:root", True),
        "account ID": (ACCOUNT, True),
        "the user": (f"arn:aws:iam::{ACCOUNT}:user/keyturn", True),
        "another user": (f"arn:aws:iam::{ACCOUNT}:user/other", False),
        "another account": ("444455556666", False),
    },
)
def test_trusted_principal(principal: str, new_role: NewRole, assume: Assume, *, is_trusted: bool) -> None:
    arn = new_role("Trusting", principal)

    if is_trusted:
        assert assume(RoleArn=arn)["AssumedRoleUser"]["Arn"].endswith("/Trusting/demo")
    else:
        assert aws_error(assume, RoleArn=arn) == DENIED


def test_role_can_trust_a_role_or_one_of_its_sessions(new_role: NewRole, assume: Assume) -> None:
    trusts_role = new_role("OfRole", ACCOUNT_ROLE_ARN)
    trusts_session = new_role("OfSession", f"arn:aws:sts::{ACCOUNT}:assumed-role/AccountConsumer/demo")
    demo, other = (as_keys(assume(RoleSessionName=name)["Credentials"]) for name in ("demo", "other"))

    assert assume(demo, RoleArn=trusts_role)
    assert assume(demo, RoleArn=trusts_session)
    assert assume(other, RoleArn=trusts_role)
    assert aws_error(assume, other, RoleArn=trusts_session) == DENIED
    assert aws_error(assume, RoleArn=trusts_role) == DENIED


@cases(
    "params, action",
    {
        "tags": ({"Tags": TAGGED["Tags"]}, "TagSession"),
        "source identity": ({"SourceIdentity": "alice"}, "SetSourceIdentity"),
    },
)
def test_parameter_needs_its_own_action(params: dict[str, Any], action: str, new_role: NewRole, assume: Assume) -> None:
    arn = new_role("Plain", ACCOUNT, ["sts:AssumeRole"])

    assert assume(RoleArn=arn)
    with pytest.raises(ClientError, match=f"perform: sts:{action}"):
        assume(RoleArn=arn, **params)


def test_chained_session_lasts_at_most_an_hour(assume: Assume) -> None:
    first = as_keys(assume()["Credentials"])

    assert assume(first, DurationSeconds=3600)
    assert aws_error(assume, first, DurationSeconds=3601) == ("ValidationError", 400)


def test_only_transitive_tags_are_inherited(new_role: NewRole, assume: Assume) -> None:
    plain = new_role("Plain", ACCOUNT, ["sts:AssumeRole"])
    second = as_keys(assume(as_keys(assume(**TAGGED)["Credentials"]))["Credentials"])
    not_transitive = as_keys(assume(Tags=TAGGED["Tags"])["Credentials"])

    assert aws_error(assume, second, RoleArn=plain) == DENIED
    assert assume(not_transitive, RoleArn=plain)


def test_inherited_tags_count_as_packed_policy(assume: Assume) -> None:
    half = {"Tags": LONG_TAGS[25:33], "TransitiveTagKeys": [tag["Key"] for tag in LONG_TAGS[25:33]]}
    first = assume(**half)
    second = assume(as_keys(first["Credentials"]), Tags=LONG_TAGS[33:41])

    assert second["PackedPolicySize"] > first["PackedPolicySize"] > 0
