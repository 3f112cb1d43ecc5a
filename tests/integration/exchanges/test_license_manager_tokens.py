"""CreateToken and DeleteToken."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import jwt
import pytest

from keyturn.core.errors import KeyturnError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Superseded
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.registry import exchange
from tests.support.clock import real_now
from tests.support.dependencies import DAY, HOUR, SECOND, request
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import LICENSE_ARN, ROLE_ARN, USER_KEY_ID, USER_SECRET_KEY
from tests.support.exchange_steps import context, get_access_token
from tests.support.manifests.tokens import create

USER = PipelineValues(credentials=Credentials(USER_KEY_ID, USER_SECRET_KEY), revision=1)
WEEK = {"revokeSuperseded": {"gracePeriod": "168h"}}


async def mint(
    client: Aws, held: PipelineValues = USER, name: str = "", spec: dict[str, Any] | None = None, **changes: Any
) -> PipelineValues:
    # A name of its own for each test: ClientTokens live for ten minutes.
    wanted = request(**(create(licenseArn=LICENSE_ARN, **changes) | (spec or {})), uid=name)
    return await exchange(context(client), wanted, wanted.spec.exchanges[0], held)


async def failing(client: Aws, **more: Any) -> KeyturnError:
    with pytest.raises(KeyturnError) as raised:
        await mint(client, **more)
    return raised.value


def claims(held: PipelineValues) -> dict[str, Any]:
    assert held.access_token
    told: dict[str, Any] = jwt.decode(held.access_token.value, options={"verify_signature": False})
    return told


async def test_credentials_become_a_refresh_token_that_works(client: Aws, emulator: Emulator) -> None:
    held = await mint(client, name="all", roleArns=[ROLE_ARN], expirationInDays=30, tokenProperties=["on-prem"])

    assert held.access_token
    assert held.access_token.expires_at
    assert abs(held.access_token.expires_at - real_now() - 30 * DAY) < 5 * SECOND
    assert claims(held)["aud"] == LICENSE_ARN
    assert "on-prem" in claims(held)["amr"]
    assert held.token_id
    assert await get_access_token(client, held.access_token.value)


async def test_a_try_that_is_made_again_mints_no_second_token(client: Aws, emulator: Emulator) -> None:
    first = await mint(client, name="again")
    again = await mint(client, replace(USER, request_id="of another process"), name="again")
    next_issue = await mint(client, replace(USER, revision=2), name="again")
    other = await mint(client, name="another")

    assert again.access_token == first.access_token
    assert len({first.token_id, next_issue.token_id, other.token_id}) == 3


async def test_what_was_lost_on_the_way_is_asked_for_again(client: Aws, emulator: Emulator) -> None:
    emulator.fault("CreateToken", drop="after")
    held = await mint(client, name="lost")
    again = await mint(client, name="lost")

    assert (held.token_id, emulator.calls("CreateToken")) == (again.token_id, 3)


async def test_the_license_is_asked_for_at_home(client: Aws, emulator: Emulator) -> None:
    held = await mint(client, name="abroad", spec={"region": "eu-west-1"})

    assert held.token_id
    assert emulator.calls("CreateToken") == 2


@pytest.mark.parametrize("location", ["https://evil.example/", "", "https://license-manager.us-east-1.evil.example"])
async def test_nothing_but_a_region_is_taken_from_a_redirect(location: str, client: Aws, emulator: Emulator) -> None:
    emulator.fault("CreateToken", times=None, code="RedirectException", members={"Location": location})
    error = await failing(client, name="redirected")

    assert (error.reason, "the license is of another region" in error.message) == ("InvalidSpec", True)
    assert "evil" not in error.message
    assert emulator.calls("CreateToken") == 1


def superseded(client_held: PipelineValues, *ages: timedelta) -> tuple[Superseded, ...]:
    return tuple(Superseded(client_held.token_id, real_now() - age) for age in ages)


@pytest.mark.parametrize(
    ("changes", "age", "deleted"),
    [
        pytest.param(WEEK, 8 * DAY, True, id="its time is over"),
        pytest.param(WEEK, 6 * DAY, False, id="it may still be in use"),
        pytest.param({}, 300 * DAY, False, id="nobody asked for it"),
    ],
)
async def test_what_was_superseded_is_deleted_when_its_time_is_over(
    changes: dict[str, Any], age: timedelta, client: Aws, emulator: Emulator, *, deleted: bool
) -> None:
    old = await mint(client, name=f"old {age}")
    held = await mint(client, replace(USER, revision=2, superseded=superseded(old, age)), name=f"{age}", **changes)

    assert emulator.calls("DeleteToken") == int(deleted)
    assert (held.superseded == ()) == deleted
    assert old.access_token
    if deleted:
        with pytest.raises(KeyturnError):
            await get_access_token(client, old.access_token.value)


@pytest.mark.parametrize(
    ("code", "left"),
    [
        pytest.param("ResourceNotFoundException", 0, id="it is gone already"),
        pytest.param("AccessDeniedException", 1, id="it may not be deleted"),
        pytest.param("ServerInternalException", 1, id="nobody knows"),
    ],
)
async def test_a_token_that_is_not_deleted_breaks_no_renewal(
    code: str, left: int, client: Aws, emulator: Emulator
) -> None:
    emulator.fault("DeleteToken", times=None, code=code)
    old = Superseded("some-id", real_now() - 9 * DAY)
    held = await mint(client, replace(USER, superseded=(old,)), name=f"left {code}", **WEEK)

    assert held.access_token
    assert len(held.superseded) == left


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("ValidationException", 400, "InvalidSpec"),
        ("AuthorizationException", 400, "AccessDenied"),
        ("AccessDeniedException", 400, "AccessDenied"),
        ("RateLimitExceededException", 400, "Throttled"),
        ("ResourceLimitExceededException", 400, "InvalidSpec"),
        ("ServerInternalException", 500, "Unavailable"),
        ("ResourceNotFoundException", 400, "InvalidSpec"),
        ("UnrecognizedClientException", 400, "SourceInvalid"),
        ("InvalidSignatureException", 400, "SourceInvalid"),
        ("ExpiredTokenException", 400, "SourceExpired"),
    ],
)
async def test_each_error(code: str, status: int, reason: str, client: Aws, emulator: Emulator) -> None:
    emulator.fault("CreateToken", times=None, code=code, status=status, message="planted")
    error = await failing(client, name="failing")

    assert error.reason == reason
    assert error.message.startswith(f"License Manager CreateToken: {code}")
    assert "planted" not in error.message


async def test_the_expiry_of_a_token_that_tells_none(client: Aws, emulator: Emulator) -> None:
    held = await mint(client, name="default")

    assert held.access_token
    assert held.access_token.expires_at
    assert abs(held.access_token.expires_at - real_now() - 365 * DAY) < HOUR
