from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.cases import cases
from tests.support.emulator.boto import USER, Boto, as_keys, aws_error
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, ACCOUNT_ROLE_ARN

Operation = Callable[..., Any]
EITHER = pytest.mark.parametrize("name", ["GetSessionToken", "GetFederationToken"])


def operation(boto: Boto, name: str, keys: dict[str, Any] = USER) -> Operation:
    sts = boto("sts", **keys)
    if name == "GetSessionToken":
        return sts.get_session_token  # type: ignore[no-any-return]
    return lambda **params: sts.get_federation_token(**{"Name": "guest", **params})


@EITHER
def test_lifetime_over_36_hours_is_refused(name: str, aws: Emulator, boto: Boto) -> None:
    assert aws_error(operation(boto, name), DurationSeconds=129601) == ("ValidationError", 400)


def test_federated_user_cannot_assume_a_role(aws: Emulator, boto: Boto) -> None:
    guest = boto("sts", **as_keys(operation(boto, "GetFederationToken")()["Credentials"]))
    error = aws_error(guest.assume_role, RoleArn=ACCOUNT_ROLE_ARN, RoleSessionName="demo")

    assert error == ("AccessDenied", 403)


def test_mfa_code_expires(aws: Emulator, boto: Boto) -> None:
    serial, code = aws.mfa_code()
    aws.settings(clock_offset_seconds=91)
    error = aws_error(operation(boto, "GetSessionToken"), SerialNumber=serial, TokenCode=code)

    assert error == ("AccessDenied", 403)


@cases(
    "changes, message",
    {
        "no code": ({"TokenCode": None}, "must provide both"),
        "no device": ({"SerialNumber": None}, "must provide both"),
        "another device": ({"SerialNumber": f"arn:aws:iam::{ACCOUNT}:mfa/other"}, "unable to validate"),
        "code with a letter": ({"TokenCode": "12345x"}, "TokenCode"),
    },
)
def test_wrong_mfa_is_refused(changes: dict[str, Any], message: str, aws: Emulator, boto: Boto) -> None:
    serial, code = aws.mfa_code()
    params = {"SerialNumber": serial, "TokenCode": code, **changes}

    with pytest.raises(ClientError, match=message):
        operation(boto, "GetSessionToken")(**{name: value for name, value in params.items() if value})
