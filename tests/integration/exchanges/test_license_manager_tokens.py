"""License Manager CreateToken and DeleteToken."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import jwt
import pytest

from keyturn.core.errors import KeyturnError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Superseded
from keyturn.exchanges.aws import Aws
from tests.support.clock import real_now
from tests.support.dependencies import DAY, SECOND, request
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import LICENSE_ARN, ROLE_ARN, USER_KEY_ID, USER_SECRET_KEY
from tests.support.exchange_steps import context, exchange, get_access_token
from tests.support.manifests.tokens import create

USER = PipelineValues(credentials=Credentials(USER_KEY_ID, USER_SECRET_KEY), revision=1)
WEEK = {"revokeSuperseded": {"gracePeriod": "168h"}}


async def create_token(
    client: Aws, values: PipelineValues = USER, name: str = "", spec: dict[str, Any] | None = None, **changes: Any
) -> PipelineValues:
    # Each test needs its own uid: AWS remembers a ClientToken for ten minutes.
    token_request = request(**(create(licenseArn=LICENSE_ARN, **changes) | (spec or {})), uid=name)
    return await exchange(context(client), token_request, token_request.spec.exchanges[0], values)


async def fail_create(client: Aws, **changes: Any) -> KeyturnError:
    with pytest.raises(KeyturnError) as raised:
        await create_token(client, **changes)
    return raised.value


def claims(values: PipelineValues) -> dict[str, Any]:
    assert values.access_token
    body: dict[str, Any] = jwt.decode(values.access_token.value, options={"verify_signature": False})
    return body


async def test_credentials_are_exchanged_for_a_refresh_token(client: Aws, emulator: Emulator) -> None:
    values = await create_token(
        client, name="all", roleArns=[ROLE_ARN], expirationInDays=30, tokenProperties=["on-prem"]
    )

    assert values.access_token
    assert values.access_token.expires_at
    assert abs(values.access_token.expires_at - real_now() - 30 * DAY) < 5 * SECOND
    assert claims(values)["aud"] == LICENSE_ARN
    assert "on-prem" in claims(values)["amr"]
    assert values.token_id
    assert await get_access_token(client, values.access_token.value)


async def test_retry_creates_no_second_token(client: Aws, emulator: Emulator) -> None:
    first = await create_token(client, name="again")
    retried = await create_token(client, replace(USER, request_id="another-process"), name="again")
    next_revision = await create_token(client, replace(USER, revision=2), name="again")
    other = await create_token(client, name="another")

    assert retried.access_token == first.access_token
    assert len({first.token_id, next_revision.token_id, other.token_id}) == 3


async def test_lost_response_is_requested_again(client: Aws, emulator: Emulator) -> None:
    emulator.fault("CreateToken", drop="after")
    values = await create_token(client, name="lost")
    retried = await create_token(client, name="lost")

    assert (values.token_id, emulator.calls("CreateToken")) == (retried.token_id, 3)


async def test_call_is_repeated_in_the_home_region(client: Aws, emulator: Emulator) -> None:
    values = await create_token(client, name="abroad", spec={"region": "eu-west-1"})

    assert values.token_id
    assert emulator.calls("CreateToken") == 2


@pytest.mark.parametrize("location", ["https://evil.example/", "", "https://license-manager.us-east-1.evil.example"])
async def test_only_a_region_is_read_from_a_redirect(location: str, client: Aws, emulator: Emulator) -> None:
    emulator.fault("CreateToken", times=None, code="RedirectException", members={"Location": location})
    error = await fail_create(client, name="redirected")

    assert (error.reason, "the license belongs to another region" in error.message) == ("InvalidSpec", True)
    assert "evil" not in error.message
    assert emulator.calls("CreateToken") == 1


def superseded(values: PipelineValues, *ages: timedelta) -> tuple[Superseded, ...]:
    return tuple(Superseded(values.token_id, real_now() - age) for age in ages)


@pytest.mark.parametrize(
    ("changes", "age", "deleted"),
    [
        pytest.param(WEEK, 8 * DAY, True, id="after the grace period"),
        pytest.param(WEEK, 6 * DAY, False, id="before the grace period ends"),
        pytest.param({}, 300 * DAY, False, id="without revokeSuperseded"),
    ],
)
async def test_superseded_token_is_deleted_after_its_grace_period(
    changes: dict[str, Any], age: timedelta, client: Aws, emulator: Emulator, *, deleted: bool
) -> None:
    old = await create_token(client, name=f"old {age}")
    values = await create_token(
        client, replace(USER, revision=2, superseded=superseded(old, age)), name=f"{age}", **changes
    )

    assert emulator.calls("DeleteToken") == int(deleted)
    assert (values.superseded == ()) == deleted
    assert old.access_token
    if deleted:
        with pytest.raises(KeyturnError):
            await get_access_token(client, old.access_token.value)


@pytest.mark.parametrize(
    ("code", "remaining"),
    [
        pytest.param("ResourceNotFoundException", 0, id="already deleted"),
        pytest.param("AccessDeniedException", 1, id="deletion not allowed"),
        pytest.param("ServerInternalException", 1, id="outcome unknown"),
    ],
)
async def test_failed_deletion_does_not_fail_the_renewal(
    code: str, remaining: int, client: Aws, emulator: Emulator
) -> None:
    emulator.fault("DeleteToken", times=None, code=code)
    old = Superseded("some-id", real_now() - 9 * DAY)
    values = await create_token(client, replace(USER, superseded=(old,)), name=f"left {code}", **WEEK)

    assert values.access_token
    assert len(values.superseded) == remaining
