"""What an issue keeps of the one before."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.token_request import Request
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Superseded, Token
from keyturn.core.state import ReconcileState
from keyturn.reconcile.issue import IssueContext, issue
from tests.support.dependencies import (
    ACCESS_TOKEN,
    DAY,
    HOUR,
    MINUTE,
    NOW,
    Outside,
    attempt,
    request,
    rotating,
    signed,
    with_code,
)

MINT = {"licenseManagerCreateToken": {"licenseArn": "arn:aws:license-manager::111122223333:license:l-1"}}
WANTED = request(source={"credentials": {"secretRef": {"name": "base"}}}, exchanges=[MINT])


class Minting:
    """License Manager: a token for each call; it may delete what was superseded. `seen` is what it was given."""

    def __init__(self, outside: Outside) -> None:
        self.outside, self.seen = outside, list[PipelineValues]()
        self.deletes = False
        self.state = ReconcileState()

    async def exchange(self, _: Request, _step: StepSpec, held: PipelineValues) -> PipelineValues:
        self.seen.append(held)
        number = len(self.seen)
        token = Token(f"token-{number}", self.outside.now + 60 * DAY)
        left = () if self.deletes else held.superseded
        return dataclasses.replace(held, access_token=token, token_id=f"id-{number}", superseded=left)

    async def reconcile(self, wanted: Request = WANTED) -> None:
        deps = dataclasses.replace(self.outside.deps, exchange=self.exchange)
        outcome = await attempt(deps, wanted, self.state)
        self.state = outcome.reconciled.state
        assert outcome.failure is None
        assert outcome.tried


async def test_the_tokens_before_are_recorded_until_they_are_deleted() -> None:
    minting = Minting(with_code())
    times = []
    for _ in range(3):
        await minting.reconcile()
        times.append(minting.outside.now)
        minting.outside.now += 45 * DAY
    issuance = minting.outside.issuance()
    assert issuance.token_id == "id-3"
    assert issuance.superseded == (Superseded("id-1", times[1]), Superseded("id-2", times[2]))

    minting.deletes = True
    await minting.reconcile()

    assert minting.seen[3].superseded == issuance.superseded
    assert [one.token_id for one in minting.outside.issuance().superseded] == ["id-3"]


async def test_a_restart_forgets_none_of_them() -> None:
    minting = Minting(with_code())
    for _ in range(2):
        await minting.reconcile()
        minting.outside.now += 45 * DAY
        minting.state = ReconcileState()
    await minting.reconcile()

    assert [one.token_id for one in minting.outside.issuance().superseded] == ["id-1", "id-2"]


async def test_the_numbers_go_on_where_only_the_status_remembers_them() -> None:
    minting = Minting(with_code())
    minting.state = ReconcileState(revision=7)
    await minting.reconcile()

    assert (minting.seen[0].revision, minting.outside.issuance().revision) == (8, 8)


async def test_each_issue_has_a_number_and_a_try_that_is_made_again_the_same() -> None:
    minting = Minting(with_code())
    await minting.reconcile()
    minting.outside.now += 45 * DAY
    minting.outside.secrets.failures["write"] = RefusedError("WriteDenied", "a policy")
    with pytest.raises(AssertionError):
        await minting.reconcile()
    minting.outside.secrets.failures.clear()
    minting.state = ReconcileState()
    for _ in range(2):
        await minting.reconcile()
        minting.outside.now += 45 * DAY

    assert [held.revision for held in minting.seen] == [1, 2, 2, 3]


@pytest.mark.parametrize("ends", [datetime.max.replace(tzinfo=UTC), NOW + 25 * 366 * DAY])
async def test_what_all_but_never_ends_is_not_issued_again_and_again(ends: datetime) -> None:
    outside = with_code()
    outside.secrets.put("license", data={"license_token": "token"})

    async def exchange(_: Request, _step: StepSpec, held: PipelineValues) -> PipelineValues:
        return dataclasses.replace(held, access_token=Token("token", ends))

    deps, state, wanted = (
        dataclasses.replace(outside.deps, exchange=exchange),
        ReconcileState(),
        request(exchanges=[ACCESS_TOKEN]),
    )
    first = await attempt(deps, wanted, state)
    outside.now += HOUR
    again = await attempt(deps, wanted, first.reconciled.state)

    assert (first.reason, again.reason) == ("SecretMissing", "")
    assert outside.issuance().renew > outside.now + 365 * DAY


@pytest.mark.parametrize(
    ("begins", "lives", "warned_before"),
    [
        pytest.param(-9 * DAY, timedelta(days=1), DAY, id="iat: a tenth of its life"),
        pytest.param(None, 30 * MINUTE, 3 * MINUTE, id="a rotated one without iat began with this issue"),
        pytest.param(None, 90 * DAY, 9 * DAY, id="the same, and it lives for long"),
    ],
)
def test_the_warning_of_a_refresh_token(begins: timedelta | None, lives: timedelta, warned_before: timedelta) -> None:
    token = signed(None if begins is None else NOW + begins, NOW + lives)
    keys = Credentials("AKIA", "key", "session", NOW + HOUR)
    values = PipelineValues(source_token=Token(token), credentials=keys)
    issuance, _ = issue(rotating(), values, IssueContext("source", None, 1, 0.0, NOW))

    assert issuance.source_warns == NOW + lives - warned_before


def test_one_that_stays_is_warned_of_as_long_before_as_any() -> None:
    keys = Credentials("AKIA", "key", "session", NOW + HOUR)
    values = PipelineValues(source_token=Token(signed(expires=NOW + 90 * DAY)), credentials=keys)
    first, _ = issue(rotating(), values, IssueContext("source", None, 1, 0.0, NOW))
    second, _ = issue(rotating(), values, IssueContext("source", first, 2, 0.0, NOW))

    assert second.source_warns == NOW + 76 * DAY
