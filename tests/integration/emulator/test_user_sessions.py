from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.cases import cases
from tests.support.clock import real_now
from tests.support.emulator.boto import USER, Boto, as_keys, error_of
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, ACCOUNT_ROLE_ARN

Operation = Callable[..., Any]
EITHER = pytest.mark.parametrize("name", ["GetSessionToken", "GetFederationToken"])


def operation(boto: Boto, name: str, keys: dict[str, Any] = USER) -> Operation:
    sts = boto("sts", **keys)
    if name == "GetSessionToken":
        return sts.get_session_token  # type: ignore[no-any-return]
    return lambda **params: sts.get_federation_token(**{"Name": "guest", **params})


def test_session_token_has_the_identity_of_the_user(aws: Emulator, boto: Boto) -> None:
    keys = as_keys(operation(boto, "GetSessionToken")()["Credentials"])

    assert boto("sts", **keys).get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/keyturn"


def test_federated_user_has_its_own_identity(aws: Emulator, boto: Boto) -> None:
    response = operation(boto, "GetFederationToken")(Policy="{}", Tags=[{"Key": "Team", "Value": "blue"}])
    identity = boto("sts", **as_keys(response["Credentials"])).get_caller_identity()

    assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:federated-user/guest"
    assert response["FederatedUser"] == {"FederatedUserId": f"{ACCOUNT}:guest", "Arn": identity["Arn"]}


@EITHER
@cases("params, hours", {"12 hours by default": ({}, 12), "36 hours at most": ({"DurationSeconds": 129600}, 36)})
def test_lifetime(name: str, params: dict[str, int], hours: int, aws: Emulator, boto: Boto) -> None:
    lifetime = operation(boto, name)(**params)["Credentials"]["Expiration"] - real_now()

    assert timedelta(hours=hours, minutes=-1) < lifetime <= timedelta(hours=hours)


@EITHER
def test_lifetime_over_36_hours_is_refused(name: str, aws: Emulator, boto: Boto) -> None:
    assert error_of(operation(boto, name), DurationSeconds=129601) == ("ValidationError", 400)


@EITHER
def test_session_credentials_are_refused(name: str, aws: Emulator, boto: Boto) -> None:
    role = boto("sts", **USER).assume_role(RoleArn=ACCOUNT_ROLE_ARN, RoleSessionName="demo")
    sessions = [role, operation(boto, "GetSessionToken")(), operation(boto, "GetFederationToken")()]
    errors = [error_of(operation(boto, name, as_keys(it["Credentials"]))) for it in sessions]

    assert errors == [("AccessDenied", 403)] * 3


def test_federated_user_cannot_assume_a_role(aws: Emulator, boto: Boto) -> None:
    guest = boto("sts", **as_keys(operation(boto, "GetFederationToken")()["Credentials"]))
    error = error_of(guest.assume_role, RoleArn=ACCOUNT_ROLE_ARN, RoleSessionName="demo")

    assert error == ("AccessDenied", 403)


@cases(
    "params, code",
    {
        "name of 33 characters": ({"Name": "x" * 33}, "ValidationError"),
        "name with a space": ({"Name": "a b"}, "ValidationError"),
        "policy is not JSON": ({"Policy": "{"}, "MalformedPolicyDocument"),
        "policy over 2048 characters": ({"Policy": '"' + "x" * 2047 + '"'}, "ValidationError"),
        "reserved tag key": ({"Tags": [{"Key": "aws:x", "Value": ""}]}, "InvalidParameterValue"),
    },
)
def test_get_federation_token_refuses(params: dict[str, Any], code: str, aws: Emulator, boto: Boto) -> None:
    assert error_of(operation(boto, "GetFederationToken"), **params) == (code, 400)


def test_mfa_code_is_accepted_once(aws: Emulator, boto: Boto) -> None:
    get_session_token = operation(boto, "GetSessionToken")
    serial, code = aws.mfa_code()

    assert get_session_token(SerialNumber=serial, TokenCode=code)["Credentials"]
    assert error_of(get_session_token, SerialNumber=serial, TokenCode=code) == ("AccessDenied", 403)


def test_mfa_code_expires(aws: Emulator, boto: Boto) -> None:
    serial, code = aws.mfa_code()
    aws.settings(clock_offset_seconds=91)
    error = error_of(operation(boto, "GetSessionToken"), SerialNumber=serial, TokenCode=code)

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
