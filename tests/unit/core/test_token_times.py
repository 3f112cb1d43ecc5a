"""What issuers state about the expiry of tokens, and what cannot be true."""

from datetime import datetime, timedelta
from typing import Any

import jwt
import pytest

from keyturn.core.pipeline_values import MAX_VALUE_LENGTH
from keyturn.core.token_times import jwt_times, parse_time, refresh_token_expiry, token_expiry
from tests.support.cases import cases
from tests.support.dependencies import DAY, HOUR, MINUTE, NOW, SECOND, signed

NEITHER = (None, None)
SECONDS = int(NOW.timestamp())
LATER, BEFORE = NOW + HOUR, NOW - HOUR
# Also the largest time of .NET, which stands for "does not expire".
LAST_SECOND = datetime.max.replace(microsecond=0, tzinfo=NOW.tzinfo)
# No time and no lifetime, whatever member has it.
IMPOSSIBLE: dict[str, Any] = {
    "null": None,
    "0": 0,
    "0 as a string": "0",
    "-1": -1,
    "-1 as a string": "-1",
    "less than a second": 0.9,
    "true": True,
    "a word": "soon",
    "an empty string": "",
    "NaN": float("nan"),
    "NaN as a string": "NaN",
    "infinity": float("inf"),
    "infinity as a string": "-Infinity",
    "a number of 31 digits": 10**30,
    "an integer larger than a float": 10**400,
    "5,000 digits in a string": "9" * 5000,
    "a list": [3600],
    "an object": {"seconds": 3600},
}
LIFETIMES: dict[str, Any] = {
    "a number": 3600,
    "a string": "3600",
    "a decimal": 3600.5,
    "a decimal in a string": "3600.0",
    "a string with spaces": " 3600 ",
    "an exponent": "3.6e3",
}
TIMES: dict[str, Any] = {
    "epoch seconds": SECONDS + 3600,
    "epoch seconds as a string": str(SECONDS + 3600),
    "a decimal in a string": f"{SECONDS + 3600}.8905",
    "epoch milliseconds": (SECONDS + 3600) * 1000,
    "ISO 8601 with Z": "2026-01-02T04:04:05Z",
    "ISO 8601 with an offset and a fraction": "2026-01-02T05:04:05.123+01:00",
}
PAST_TIMES: dict[str, Any] = {
    "now": SECONDS,
    "an hour ago": SECONDS - 3600,
    "an hour ago in milliseconds": (SECONDS - 3600) * 1000,
    "an hour ago in ISO 8601": "2026-01-02T02:04:05Z",
    "a time without a zone": "2026-01-02T04:04:05",
    "a time outside of the calendar": "9999-12-31T23:59:59-14:00",
}


@cases("lifetime", LIFETIMES)
@pytest.mark.parametrize("name", ["expires_in", "refresh_expires_in", "refresh_token_expires_in"])
def test_stated_lifetime_counts_from_the_request(name: str, lifetime: object) -> None:
    read = token_expiry if name == "expires_in" else refresh_token_expiry

    assert read("opaque", NOW, members={name: lifetime}) == LATER


@cases("time", TIMES)
@pytest.mark.parametrize(
    "name",
    # Some issuers state a time in place of a lifetime.
    ["expires_at", "expires_on", "access_token_expires_at", "refresh_token_expires_at", "expires_in"],
)
def test_stated_time_is_read(name: str, time: object) -> None:
    read = refresh_token_expiry if name.startswith("refresh") else token_expiry

    assert read("opaque", NOW, members={name: time}) == LATER


@cases("value", IMPOSSIBLE | PAST_TIMES)
@pytest.mark.parametrize("name", ["expires_in", "expires_on"])
def test_impossible_statement_leaves_the_expiry_to_the_jwt(name: str, value: object) -> None:
    assert token_expiry(signed(expires=LATER), NOW, {name: value}) == LATER
    assert token_expiry("opaque", NOW, {name: value}) is None
    assert token_expiry("opaque", NOW, {name: value}, 30 * MINUTE) == NOW + 30 * MINUTE


@cases("value", IMPOSSIBLE)
def test_impossible_lifetime_of_a_refresh_token_means_no_expiry(value: object) -> None:
    members = {"refresh_expires_in": value, "refresh_token_expires_in": value, "refresh_token_expires_at": value}

    assert refresh_token_expiry("opaque", NOW, members) is None
    assert refresh_token_expiry(None, NOW, members) is None
    assert refresh_token_expiry(signed(expires=LATER), NOW, members) == LATER


@cases(
    "token, members, expected",
    {
        "the response before the JWT": (signed(expires=NOW + 2 * HOUR), {"expires_in": 3600}, LATER),
        "a possible member after an impossible one": ("opaque", {"expires_in": 0, "expires_on": SECONDS + 3600}, LATER),
        "a lifetime before a time": ("opaque", {"expires_in": 3600, "expires_at": SECONDS + 60}, LATER),
        "the JWT": (signed(expires=LATER), {}, LATER),
        "the whole life of a JWT before a longer one in the response": (
            signed(issued=NOW - DAY, expires=LATER - DAY),
            {"expires_in": 3_600_000},
            LATER,
        ),
        "a response that is shorter than the life of a JWT": (
            signed(issued=BEFORE, expires=LATER),
            {"expires_in": 3600},
            LATER,
        ),
        "Adobe: milliseconds": ("opaque", {"expires_in": 86_399_993}, NOW + 86_399 * SECOND),
        "Zoho: milliseconds, and seconds beside them": (
            "opaque",
            {"expires_in": 3_600_000, "expires_in_sec": 3600},
            LATER,
        ),
        "milliseconds as a string": ("opaque", {"expires_in": "86400000"}, NOW + DAY),
        "366 days in seconds": ("opaque", {"expires_in": 366 * 86400}, NOW + 366 * DAY),
        "a time in two years": ("opaque", {"expires_at": SECONDS + 730 * 86400}, NOW + 366 * DAY),
        "at most 366 days": ("opaque", {"expires_in": 2**31 - 1}, NOW + 366 * DAY),
        "a JWT that expires later": (signed(expires=NOW + 3660 * DAY), {}, NOW + 3660 * DAY),
        "the whole life of a JWT, if the local clock is behind": (
            signed(issued=NOW + DAY, expires=LATER + DAY),
            {},
            LATER,
        ),
        "a JWT that expires in the last second of the calendar": (
            signed(issued=BEFORE, expires=LAST_SECOND),
            {},
            LAST_SECOND,
        ),
        "an exp that is over, if nothing else is known": (signed(expires=BEFORE), {}, BEFORE),
        "nothing": ("opaque", {"ext_expires_in": 3600, "issued_at": "1726000000000"}, None),
    },
)
def test_best_statement_about_an_access_token_counts(
    token: str, members: dict[str, Any], expected: datetime | None
) -> None:
    assert token_expiry(token, NOW, members) == expected


def test_refresh_token_may_live_for_years() -> None:
    assert refresh_token_expiry("opaque", NOW, {"refresh_token_expires_in": 730 * 86400}) == NOW + 730 * DAY


@cases(
    "token, members, lifetime",
    {
        "nothing is stated": ("opaque", {}, 30 * MINUTE),
        "an exp that is over": (signed(expires=BEFORE), {}, 30 * MINUTE),
        "an exp of 0": (signed(exp=0), {}, 30 * MINUTE),
        "a lifetime is stated": ("opaque", {"expires_in": 60}, MINUTE),
        "an exp is stated": (signed(expires=LATER), {}, HOUR),
    },
)
def test_lifetime_is_assumed_only_if_none_is_stated(token: str, members: dict[str, Any], lifetime: timedelta) -> None:
    assert token_expiry(token, NOW, members, 30 * MINUTE) == NOW + lifetime


@cases(
    "token, times",
    {
        "both": (signed(NOW, LATER), (NOW, LATER)),
        "exp only": (signed(expires=NOW), (None, NOW)),
        "neither": (signed(), NEITHER),
        "a fraction is cut": (signed(exp=SECONDS + 0.9), (None, NOW)),
        "a string": (signed(exp=str(SECONDS)), (None, NOW)),
        "milliseconds": (signed(exp=SECONDS * 1000), (None, NOW)),
        "exp before iat": (signed(NOW, BEFORE), (NOW, None)),
        "exp at iat": (signed(NOW, NOW), (NOW, None)),
        "iat of 0": (signed(iat=0, exp=SECONDS), (None, NOW)),
        "a lifetime instead of a time": (signed(exp=3600), NEITHER),
        "nothing": ("", NEITHER),
        "not a JWT": ("opaque", NEITHER),
        "something with two dots": ("a.b.c", NEITHER),
        "broken claims": (jwt.encode({}, "k" * 32, "HS256").replace(".", ".e", 1), NEITHER),
    },
)
def test_jwt_times_are_read_or_none(token: str, times: tuple[datetime | None, datetime | None]) -> None:
    assert jwt_times(token) == times


@cases("value", IMPOSSIBLE)
def test_impossible_claims_are_ignored(value: object) -> None:
    assert jwt_times(signed(exp=value, iat=value)) == NEITHER
    assert jwt_times(signed(exp=SECONDS, iat=value)) == (None, NOW)


@cases(
    "size, times", {"an ordinary token": (1000, (NOW, LATER)), "a token that is too long": (MAX_VALUE_LENGTH, NEITHER)}
)
def test_long_token_is_not_decoded(size: int, times: tuple[datetime | None, datetime | None]) -> None:
    assert jwt_times(signed(NOW, LATER, padding="x" * size)) == times


def test_deeply_nested_claims_are_not_decoded() -> None:
    claims: list[object] = []
    for _ in range(100):
        claims = [claims]

    assert jwt_times(signed(NOW, LATER, claims=claims)) == NEITHER


@pytest.mark.parametrize("moment", [datetime(1970, 1, 1, tzinfo=NOW.tzinfo), NOW.replace(tzinfo=None)], ids=str)
def test_impossible_time_of_aws_is_none(moment: datetime) -> None:
    assert parse_time(moment) is None
    assert parse_time(NOW + SECOND / 2) == NOW
