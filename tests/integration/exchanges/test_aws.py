import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError

from keyturn import __version__
from keyturn.core.errors import KeyturnError, ThrottledError, UnavailableError
from keyturn.core.formats.context import require_credentials
from keyturn.core.settings import AwsSettings
from keyturn.exchanges.aws import Aws
from keyturn.metrics import Metrics
from tests.support.dependencies import HOUR, MINUTE
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ROLE_ARN
from tests.support.exchange_steps import (
    assume_role,
    aws,
    emulator_settings,
    fail_operation,
    fail_signed,
    get_access_token,
)

LICENSE_MANAGER, STS = "GetAccessToken", "AssumeRoleWithWebIdentity"
EXCHANGES = pytest.mark.parametrize("operation", [LICENSE_MANAGER, STS])


@contextmanager
def new_client(emulator: Emulator) -> Iterator[tuple[Aws, Metrics]]:
    """A new client with its own metrics, as after a start."""
    metrics = Metrics()
    with closing(aws(emulator_settings(emulator), metrics)) as client:
        yield client, metrics


@EXCHANGES
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param({"drop": "before"}, "Unreachable", id="a dropped connection"),
        pytest.param({"drop": "after"}, "Unreachable", id="a lost response"),
        pytest.param({"body": "html"}, "Unavailable", id="a page of a proxy"),
        pytest.param({"body": "empty"}, "Unavailable", id="an empty response"),
        pytest.param({"status": 502, "body": "html"}, "Unavailable", id="a gateway's error page"),
        pytest.param({"code": "NewlyInvented", "status": 403}, "AccessDenied", id="an unknown code of 403"),
    ],
)
async def test_network_fault_is_classified(
    operation: str, fault: dict[str, Any], reason: str, client: Aws, emulator: Emulator
) -> None:
    assert (await fail_operation(client, emulator, operation, **fault)).reason == reason


@EXCHANGES
async def test_server_error_is_attempted_three_times(operation: str, client: Aws, emulator: Emulator) -> None:
    await fail_operation(client, emulator, operation, code="InternalFailure", status=500)

    assert emulator.calls(operation) == 3


@EXCHANGES
async def test_refused_call_is_attempted_once(operation: str, client: Aws, emulator: Emulator) -> None:
    await fail_operation(client, emulator, operation, code="NewlyInvented", status=400)

    assert emulator.calls(operation) == 1


async def test_dropped_connection_is_retried(client: Aws, emulator: Emulator) -> None:
    emulator.fault(LICENSE_MANAGER, drop="before", times=2)

    assert (await get_access_token(client, emulator.refresh_token())).access_token


async def test_closed_port_is_unreachable() -> None:
    closed_port = AwsSettings(endpoints={"license-manager": "http://127.0.0.1:9"})
    with closing(aws(closed_port)) as client, pytest.raises(UnavailableError) as raised:
        await get_access_token(client, "refresh")

    assert raised.value.reason == "Unreachable"
    # A region that does not exist fails the same way, so the message must contain its name.
    assert raised.value.message == (
        "License Manager GetAccessToken did not respond in us-east-1 (EndpointConnectionError)"
    )


@EXCHANGES
async def test_refusal_has_code_and_request_id_but_no_text_of_aws(
    operation: str, client: Aws, emulator: Emulator
) -> None:
    error = await fail_operation(client, emulator, operation, code="AccessDeniedException", message="planted")

    assert operation in error.message
    assert (": AccessDeniedException" in error.message, len(error.request_id)) == (True, 36)
    assert "planted" not in error.message + repr(vars(error))
    # A cause could show a token.
    assert (error.__cause__, error.__suppress_context__) == (None, True)


@pytest.mark.usefixtures("ambient_credentials")
async def test_ambient_credentials_are_never_used(emulator: Emulator) -> None:
    with new_client(emulator) as (client, _):
        values = await get_access_token(client, emulator.refresh_token())
        await assume_role(client, values.current_token.value)

    # The emulator refuses signatures of unknown keys.
    assert [call["outcome"] for call in emulator.recent_calls()] == ["200", "200"]
    assert emulator.recent_calls()[0]["principal"] == "anonymous"


@pytest.mark.usefixtures("ambient_credentials")
def test_session_has_no_credential_chain() -> None:
    with closing(aws()) as client:
        credentials = client._session.get_credentials()

    assert credentials
    with pytest.raises(NoCredentialsError):
        credentials.get_frozen_credentials()


async def test_calls_name_keyturn_and_its_version(client: Aws, emulator: Emulator) -> None:
    access_token = (await get_access_token(client, emulator.refresh_token())).current_token
    await assume_role(client, access_token.value)

    agents = [call["user_agent"] for call in emulator.recent_calls()]
    assert [agent.split()[0] for agent in agents] == [f"keyturn/{__version__}"] * 2


async def test_one_client_per_service_region_and_signing(emulator: Emulator) -> None:
    with new_client(emulator) as (client, _):
        first = client._clients.get("sts", "us-east-1", 3, signed=False)

        assert client._clients.get("sts", "us-east-1", 3, signed=False) is first
        assert client._clients.get("sts", "eu-west-1", 3, signed=False) is not first
        assert client._clients.get("sts", "us-east-1", 3, signed=True) is not first


async def test_exchanges_and_throttled_calls_are_counted(emulator: Emulator) -> None:
    with new_client(emulator) as (client, metrics):
        await get_access_token(client, emulator.refresh_token())
        throttled = await fail_operation(client, emulator, LICENSE_MANAGER, code="RateLimitExceededException")
        await fail_operation(client, emulator, STS, code="NewlyInvented")
    count = metrics.registry.get_sample_value
    name = "licenseManagerGetAccessToken"

    assert isinstance(throttled, ThrottledError)
    assert count("keyturn_exchanges_total", {"exchange": name, "code": "OK"}) == 1
    assert count("keyturn_exchanges_total", {"exchange": name, "code": "RateLimitExceededException"}) == 1
    assert count("keyturn_exchanges_total", {"exchange": "assumeRoleWithWebIdentity", "code": "other"}) == 1
    assert count("keyturn_throttled_calls_total", {"service": "license-manager"}) == 1
    assert count("keyturn_exchange_duration_seconds_count", {"exchange": name}) == 2


@pytest.mark.parametrize(("offset", "direction"), [(HOUR, "behind"), (-HOUR, "ahead of")])
async def test_clock_skew_is_measured_and_reported(offset: timedelta, direction: str, emulator: Emulator) -> None:
    seconds = offset.total_seconds()
    with new_client(emulator) as (client, metrics):
        error = await fail_operation(
            client, emulator, LICENSE_MANAGER, code="ValidationException", clock_offset_seconds=seconds
        )
    measured = metrics.registry.get_sample_value("keyturn_clock_skew_seconds", {"service": "license-manager"})

    assert measured == pytest.approx(seconds, abs=5)
    assert error.reason == "SourceInvalid"
    assert error.message.endswith(f"; the node's clock is 1h {direction} AWS: synchronize it")


async def test_clock_skew_of_seconds_is_not_reported(emulator: Emulator) -> None:
    with new_client(emulator) as (client, _):
        error = await fail_operation(
            client, emulator, LICENSE_MANAGER, code="ValidationException", clock_offset_seconds=MINUTE.seconds - 10
        )

    assert "clock" not in error.message


@pytest.mark.parametrize(("seconds", "difference"), [(1200, "20m behind"), (-1200, "20m ahead of")])
async def test_signature_by_a_wrong_clock_is_clock_skew(
    seconds: int, difference: str, client: Aws, emulator: Emulator
) -> None:
    emulator.settings(clock_offset_seconds=seconds)
    error = await fail_signed(client, {"getSessionToken": {}})

    assert (type(error), error.reason) == (UnavailableError, "ClockSkew")
    assert error.message == (
        f"STS GetSessionToken: SignatureDoesNotMatch; the node's clock is {difference} AWS: synchronize it"
    )


@pytest.mark.parametrize(
    ("settings", "reason", "message"),
    [
        pytest.param(
            {"clock_offset_seconds": -7200},
            "ClockSkew",
            "; the node's clock is 2h ahead of AWS: synchronize it",
            id="a wrong clock",
        ),
        pytest.param({"session_seconds": -60}, "SourceInvalid", "; check the node's clock", id="a wrong response"),
    ],
)
async def test_credentials_that_have_expired_at_receipt(
    settings: dict[str, int], reason: str, message: str, client: Aws, emulator: Emulator
) -> None:
    emulator.settings(**settings)
    # The `exp` of this token, which is over by the same clock, is ignored: its lifetime is documented.
    access_token = (await get_access_token(client, emulator.refresh_token())).current_token
    with pytest.raises(KeyturnError) as raised:
        await assume_role(client, access_token.value)

    assert access_token.expires_at is not None
    assert raised.value.reason == reason
    assert raised.value.message.startswith(f"STS {STS} for {ROLE_ARN} returned credentials that expired at 20")
    assert raised.value.message.endswith(message)


@pytest.mark.parametrize(("offset", "lag"), [(90 * MINUTE, 90 * MINUTE), (-HOUR / 2, timedelta())])
async def test_expiry_by_the_local_clock_is_known(
    offset: timedelta, lag: timedelta, client: Aws, emulator: Emulator
) -> None:
    emulator.settings(clock_offset_seconds=offset.total_seconds())
    access_token = (await get_access_token(client, emulator.refresh_token())).current_token
    credentials = require_credentials(await assume_role(client, access_token.value))

    assert credentials.clock_lag.total_seconds() == pytest.approx(lag.total_seconds(), abs=5)


async def test_cancelled_call_is_not_counted_as_success(emulator: Emulator) -> None:
    emulator.fault(LICENSE_MANAGER, delay_seconds=1, times=None)
    with new_client(emulator) as (client, metrics), pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await get_access_token(client, emulator.refresh_token())

    labels = {"exchange": "licenseManagerGetAccessToken", "code": "cancelled"}
    assert metrics.registry.get_sample_value("keyturn_exchanges_total", labels) == 1
