from datetime import UTC, datetime, timedelta

from tests.support.cases import cases
from tests.support.emulator import license_manager
from tests.support.emulator.boto import Boto, aws_error
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import LICENSE_ARN, LICENSE_ISSUER, USER_KEY_ID
from tests.support.emulator.service import Call
from tests.support.emulator.state import Settings, State
from tests.support.emulator.tokens import SigningKey

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NEW = {"LicenseArn": LICENSE_ARN, "ClientToken": "one", "TokenProperties": ["on-prem"]}
FOREIGN_TOKEN = SigningKey().sign({"iss": LICENSE_ISSUER, "exp": 4102444800, "token_id": "x"})


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
