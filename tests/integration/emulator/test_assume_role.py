from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.cases import cases
from tests.support.emulator.boto import as_keys, aws_error
from tests.support.emulator.constants import ACCOUNT, ACCOUNT_ROLE_ARN

DENIED = ("AccessDenied", 403)
Assume = Callable[..., Any]
NewRole = Callable[..., str]


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
        "tags": ({"Tags": [{"Key": "Team", "Value": "blue"}]}, "TagSession"),
        "source identity": ({"SourceIdentity": "alice"}, "SetSourceIdentity"),
    },
)
def test_parameter_needs_its_own_action(params: dict[str, Any], action: str, new_role: NewRole, assume: Assume) -> None:
    arn = new_role("Plain", ACCOUNT, ["sts:AssumeRole"])

    assert assume(RoleArn=arn)
    with pytest.raises(ClientError, match=f"perform: sts:{action}"):
        assume(RoleArn=arn, **params)
