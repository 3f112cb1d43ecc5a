from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.emulator.conftest import USER, Client, as_keys, refusal
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, ACCOUNT_ROLE_ARN

USER_ARN = f"arn:aws:iam::{ACCOUNT}:user/keyturn"
GUEST = {"Name": "guest"}
Operation = Callable[..., Any]


def _operations(client: Client, keys: dict[str, str] = USER) -> tuple[Operation, Operation]:
    sts = client("sts", **keys)
    return sts.get_session_token, lambda **asked: sts.get_federation_token(**{**GUEST, **asked})


def test_a_session_token_is_the_user_again(aws: Emulator, client: Client) -> None:
    keys = as_keys(_operations(client)[0]()["Credentials"])

    assert client("sts", **keys).get_caller_identity()["Arn"] == USER_ARN


def test_a_federated_user_is_a_guest_of_the_account(aws: Emulator, client: Client) -> None:
    answer = _operations(client)[1](Policy="{}", Tags=[{"Key": "Team", "Value": "blue"}])
    identity = client("sts", **as_keys(answer["Credentials"])).get_caller_identity()

    assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:federated-user/guest"
    assert answer["FederatedUser"] == {"FederatedUserId": f"{ACCOUNT}:guest", "Arn": identity["Arn"]}


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    ("asked", "hours"),
    [
        pytest.param({}, 12, id="12 hours if nothing is asked"),
        pytest.param({"DurationSeconds": 129600}, 36, id="36 hours at most"),
    ],
)
def test_lifetimes(which: int, asked: dict[str, int], hours: int, aws: Emulator, client: Client) -> None:
    left = _operations(client)[which](**asked)["Credentials"]["Expiration"] - datetime.now(UTC)  # noqa: TID251 - a real server

    assert timedelta(hours=hours, minutes=-1) < left <= timedelta(hours=hours)


@pytest.mark.parametrize("which", [0, 1])
def test_a_lifetime_over_36_hours_is_refused(which: int, aws: Emulator, client: Client) -> None:
    assert refusal(_operations(client)[which], DurationSeconds=129601) == ("ValidationError", 400)


@pytest.mark.parametrize("which", [0, 1])
def test_only_a_users_own_keys_will_do(which: int, aws: Emulator, client: Client) -> None:
    role = client("sts", **USER).assume_role(RoleArn=ACCOUNT_ROLE_ARN, RoleSessionName="demo")
    session, guest = (operation() for operation in _operations(client))
    refused = [refusal(_operations(client, as_keys(one["Credentials"]))[which]) for one in (role, session, guest)]

    assert refused == [("AccessDenied", 403)] * 3


def test_a_federated_user_becomes_no_role(aws: Emulator, client: Client) -> None:
    guest = client("sts", **as_keys(_operations(client)[1]()["Credentials"]))

    assert refusal(guest.assume_role, RoleArn=ACCOUNT_ROLE_ARN, RoleSessionName="demo") == ("AccessDenied", 403)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        pytest.param({"Name": "x" * 33}, "ValidationError", id="a name of 33 characters"),
        pytest.param({"Name": "a b"}, "ValidationError", id="a space in the name"),
        pytest.param({"Policy": "{"}, "MalformedPolicyDocument", id="a policy that is no JSON"),
        pytest.param({"Policy": '"' + "x" * 2047 + '"'}, "ValidationError", id="a policy over 2048 characters"),
        pytest.param({"Tags": [{"Key": "aws:x", "Value": ""}]}, "InvalidParameterValue", id="a tag of AWS"),
    ],
)
def test_get_federation_token_refuses(asked: dict[str, Any], code: str, aws: Emulator, client: Client) -> None:
    assert refusal(_operations(client)[1], **asked) == (code, 400)


def test_an_mfa_code_works_once(aws: Emulator, client: Client) -> None:
    get_session_token, _ = _operations(client)
    serial, code = aws.mfa_code()

    assert get_session_token(SerialNumber=serial, TokenCode=code)["Credentials"]
    assert refusal(get_session_token, SerialNumber=serial, TokenCode=code) == ("AccessDenied", 403)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({"TokenCode": None}, "must provide both", id="no code"),
        pytest.param({"SerialNumber": None}, "must provide both", id="no device"),
        pytest.param({"SerialNumber": f"arn:aws:iam::{ACCOUNT}:mfa/other"}, "unable to validate", id="device"),
        pytest.param({"TokenCode": "12345x"}, "TokenCode", id="a code with a letter"),
    ],
)
def test_get_session_token_refuses_mfa(changes: dict[str, Any], told: str, aws: Emulator, client: Client) -> None:
    serial, code = aws.mfa_code()
    asked = {"SerialNumber": serial, "TokenCode": code, **changes}

    with pytest.raises(ClientError, match=told):
        _operations(client)[0](**{name: value for name, value in asked.items() if value})


def test_an_mfa_code_ends(aws: Emulator, client: Client) -> None:
    serial, code = aws.mfa_code()
    aws.settings(clock_offset_seconds=91)

    assert refusal(_operations(client)[0], SerialNumber=serial, TokenCode=code) == ("AccessDenied", 403)
