"""What an issuance takes over from the one before."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.times import rfc3339
from keyturn.api.token_request import Request
from keyturn.core.errors import RefusedError
from keyturn.core.issuance import ISSUANCE_ANNOTATION, read_issuance
from keyturn.core.pipeline_values import Credentials, PipelineValues, Superseded, Token
from keyturn.core.state import ReconcileState
from keyturn.core.token_times import jwt_times
from keyturn.reconcile.issue import IssueContext, issue
from tests.support.dependencies import (
    ACCESS_TOKEN,
    DAY,
    HOUR,
    MINUTE,
    NOW,
    FakeEnvironment,
    attempt,
    request,
    rotating,
    signed,
    unprepared,
    with_code,
)

CREATE_TOKEN = {"licenseManagerCreateToken": {"licenseArn": "arn:aws:license-manager::111122223333:license:l-1"}}
REQUEST = request(source={"credentials": {"secretRef": {"name": "base"}}}, exchanges=[CREATE_TOKEN])


class FakeLicenseManager:
    """Returns a token for each call, and may delete superseded tokens. `received` are the inputs of its calls."""

    def __init__(self, env: FakeEnvironment) -> None:
        self.env, self.received = env, list[PipelineValues]()
        self.deletes = False
        self.state = ReconcileState()

    async def exchange(self, _: Request, _step: StepSpec, values: PipelineValues) -> PipelineValues:
        self.received.append(values)
        number = len(self.received)
        token = Token(f"token-{number}", self.env.now + 60 * DAY)
        superseded = () if self.deletes else values.superseded
        return dataclasses.replace(values, access_token=token, token_id=f"id-{number}", superseded=superseded)

    async def reconcile(self, token_request: Request = REQUEST) -> None:
        deps = dataclasses.replace(self.env.deps, prepare=unprepared(self.exchange))
        outcome = await attempt(deps, token_request, self.state)
        self.state = outcome.reconciled.state
        assert outcome.failure is None
        assert outcome.tried


async def test_superseded_tokens_are_recorded_until_they_are_deleted() -> None:
    license_manager = FakeLicenseManager(with_code())
    times = []
    for _ in range(3):
        await license_manager.reconcile()
        times.append(license_manager.env.now)
        license_manager.env.now += 45 * DAY
        # After a restart, the record on the Secret is all that is known.
        license_manager.state = ReconcileState()
    issuance = license_manager.env.issuance()
    assert issuance.token_id == "id-3"
    assert issuance.superseded == (Superseded("id-1", times[1]), Superseded("id-2", times[2]))

    license_manager.deletes = True
    await license_manager.reconcile()

    assert license_manager.received[3].superseded == issuance.superseded
    assert [token.token_id for token in license_manager.env.issuance().superseded] == ["id-3"]


async def test_revision_continues_from_the_status() -> None:
    license_manager = FakeLicenseManager(with_code())
    license_manager.state = ReconcileState(revision=7)
    await license_manager.reconcile()

    assert (license_manager.received[0].revision, license_manager.env.issuance().revision) == (8, 8)


async def test_retry_has_the_revision_of_the_failed_attempt() -> None:
    license_manager = FakeLicenseManager(with_code())
    await license_manager.reconcile()
    license_manager.env.now += 45 * DAY
    license_manager.env.store.failures["write"] = [RefusedError("WriteDenied", "a policy")]
    with pytest.raises(AssertionError):
        await license_manager.reconcile()
    license_manager.state = ReconcileState()
    for _ in range(2):
        await license_manager.reconcile()
        license_manager.env.now += 45 * DAY

    assert [values.revision for values in license_manager.received] == [1, 2, 2, 3]


@pytest.mark.parametrize("expires", [datetime.max.replace(tzinfo=UTC), NOW + 25 * 366 * DAY])
async def test_token_with_a_distant_expiry_is_issued_once(expires: datetime) -> None:
    env = with_code()
    env.secrets.put("license", data={"license_token": "token"})

    async def exchange(_: Request, _step: StepSpec, values: PipelineValues) -> PipelineValues:
        return dataclasses.replace(values, access_token=Token("token", expires))

    deps, state, token_request = (
        dataclasses.replace(env.deps, prepare=unprepared(exchange)),
        ReconcileState(),
        request(exchanges=[ACCESS_TOKEN]),
    )
    first = await attempt(deps, token_request, state)
    env.now += HOUR
    second = await attempt(deps, token_request, first.reconciled.state)

    assert (first.reason, second.reason) == ("SecretMissing", "")
    assert env.issuance().renew > env.now + 365 * DAY


@pytest.mark.parametrize(
    ("issued", "lifetime", "warned_before"),
    [
        pytest.param(-9 * DAY, timedelta(days=1), DAY, id="iat: a tenth of the lifetime"),
        pytest.param(None, 30 * MINUTE, 3 * MINUTE, id="rotated without iat: counts as issued now"),
        pytest.param(None, 90 * DAY, 9 * DAY, id="rotated without iat: long lifetime"),
    ],
)
def test_refresh_token_expiry_warning(issued: timedelta | None, lifetime: timedelta, warned_before: timedelta) -> None:
    token = signed(None if issued is None else NOW + issued, NOW + lifetime)
    keys = Credentials("AKIA", "key", "session", NOW + HOUR)
    values = PipelineValues(source_token=Token(token, NOW + lifetime), credentials=keys)
    issuance, _ = issue(rotating(), values, IssueContext("source", None, 1, 0.0, NOW))

    assert issuance.source_warns == NOW + lifetime - warned_before


def test_unchanged_refresh_token_keeps_the_default_warning_time() -> None:
    keys = Credentials("AKIA", "key", "session", NOW + HOUR)
    values = PipelineValues(source_token=Token("opaque", NOW + 90 * DAY), credentials=keys)
    first, _ = issue(rotating(), values, IssueContext("source", None, 1, 0.0, NOW))
    second, _ = issue(rotating(), values, IssueContext("source", first, 2, 0.0, NOW))

    assert second.source_warns == NOW + 76 * DAY


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"exp": 253402300799}, id="year 9999"),
        pytest.param({"exp": 253402300799, "iat": -62135596800}, id="year 1 to year 9999"),
        pytest.param({"exp": 253402300000, "iat": 253402300799}, id="backwards"),
        pytest.param({"exp": 946684801}, id="a warning before the year 2000"),
    ],
)
def test_source_with_odd_times_has_a_record_that_can_be_read(claims: dict[str, Any]) -> None:
    token = signed(**claims)
    source_token = Token(token, jwt_times(token).expires_at)
    values = PipelineValues(source_token=source_token, access_token=Token("token", NOW + HOUR))
    issuance, _ = issue(request(exchanges=[ACCESS_TOKEN]), values, IssueContext("source", None, 1, 0.5, NOW))

    assert read_issuance({ISSUANCE_ANNOTATION: issuance.encoded()}) == issuance


def test_renewal_follows_the_local_clock_and_the_data_that_of_aws() -> None:
    """The operator's clock is behind by 90 minutes. Pods on other nodes read the expiry that AWS stated."""
    expires = NOW + 150 * MINUTE
    values = PipelineValues(credentials=Credentials("ASIA1", "key", "session", expires, clock_lag=90 * MINUTE))
    formats: dict[str, Any] = {
        "formats": [{"credentialProcess": {}}, {"template": {"key": "a", "text": "{{accessKeyId}}"}}]
    }
    issuance, data = issue(request(target=formats), values, IssueContext("", None, 1, 0.0, NOW))

    assert (issuance.expires, issuance.renew) == (NOW + HOUR, NOW + 40 * MINUTE)
    assert data["expiration"] == rfc3339(expires)
    assert rfc3339(expires) in data["credentials.json"]
