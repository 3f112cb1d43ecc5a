from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.cases import cases
from tests.support.emulator import license_manager
from tests.support.emulator.boto import USER, Boto, aws_error
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, LICENSE_ARN, LICENSE_ISSUER, USER_KEY_ID
from tests.support.emulator.service import Call
from tests.support.emulator.state import Settings, State
from tests.support.emulator.tokens import SigningKey

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NEW = {"LicenseArn": LICENSE_ARN, "ClientToken": "one", "TokenProperties": ["on-prem"]}
FOREIGN_TOKEN = SigningKey().sign({"iss": LICENSE_ISSUER, "exp": 4102444800, "token_id": "x"})


def test_get_access_token_may_be_signed(aws: Emulator, boto: Boto) -> None:
    boto("license-manager", **USER).get_access_token(Token=aws.refresh_token())

    assert aws.recent_calls()[-1]["principal"] == f"arn:aws:iam::{ACCOUNT}:user/keyturn"


@cases("seconds, is_same", {"within ten minutes": (599, True), "after ten minutes": (600, False)})
def test_client_token_returns_the_same_token(seconds: int, *, is_same: bool) -> None:
    state = State(Settings(), lambda: NOW)
    user = state.access_keys[USER_KEY_ID]
    first, second = (
        license_manager.create_token(Call(state, NEW, user, now, "us-east-1"))
        for now in (NOW, NOW + timedelta(seconds=seconds))
    )

    assert (first == second) is is_same


@cases(
    "changes, code",
    {
        "license does not exist": ({"LicenseArn": LICENSE_ARN + "0"}, "ResourceNotFoundException"),
        "ClientToken of 61 characters": ({"ClientToken": "x" * 61}, "ValidationException"),
        "token over 4096 characters": ({"TokenProperties": ["x" * 4000]}, "ValidationException"),
        "unknown partition": ({"RoleArns": ["arn:aws-eu:iam::1:role/x"]}, "ValidationException"),
        "zero days": ({"ExpirationInDays": 0}, "ValidationException"),
        "ClientToken with other parameters": ({"ClientToken": "used", "ExpirationInDays": 1}, "ValidationException"),
    },
)
def test_create_token_refuses(changes: dict[str, Any], code: str, aws: Emulator, boto: Boto) -> None:
    create = boto("license-manager", **USER).create_token
    create(**{**NEW, "ClientToken": "used"})

    assert aws_error(create, **{**NEW, "ClientToken": "new", **changes}) == (code, 400)


@cases(
    "token",
    {
        "signed by another key": FOREIGN_TOKEN,
        "trailing space": "{token} ",
        "quoted by jq": '"{token}"',
        "too long": "x" * 4097,
    },
)
def test_get_access_token_refuses(token: str, aws: Emulator, boto: Boto) -> None:
    error = aws_error(boto("license-manager").get_access_token, Token=token.format(token=aws.refresh_token()))

    assert error == ("ValidationException", 400)
