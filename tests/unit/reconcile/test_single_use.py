"""What works only once: it seeds a refresh token, or it is issued once and never tried again."""

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.token_request import Request
from keyturn.core.errors import REASONS, RefusedError, UnavailableError
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.core.state import ReconcileState
from keyturn.core.token_family import StoredToken
from tests.support.dependencies import (
    ASSUME_ROLE,
    CODE,
    DAY,
    HOUR,
    MINUTE,
    REFRESH,
    SECOND,
    Attempt,
    Outside,
    attempt,
    once,
    request,
    signed,
    with_code,
)

DUE = 45 * MINUTE
BOTH = {
    "token": {"secretKeyRef": {"name": "license", "key": "license_token"}},
    "credentials": {"secretRef": {"name": "base"}},
}
PLACE = ("billing", "sign-in-keyturn")
TO_REFRESH = {
    "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subjectTokenType": "urn:ietf:params:oauth:token-type:access_token",
    "requestedTokenType": "urn:ietf:params:oauth:token-type:refresh_token",
}
APPLICATION = {"clientId": CODE["identityCenterCreateToken"]["clientId"]}
ASSERTION = APPLICATION | {"grantType": "urn:ietf:params:oauth:grant-type:jwt-bearer"}
SHOWN_ONCE: dict[str, dict[str, Any]] = {
    "an assertion": {"identityCenterCreateToken": ASSERTION},
    "a subject token of Identity Center for a refresh token": {"identityCenterCreateToken": APPLICATION | TO_REFRESH},
    "a subject token of any issuer for a refresh token": {"oauthToken": REFRESH["oauthToken"] | TO_REFRESH},
}


def kept(outside: Outside) -> StoredToken:
    return outside.tokens.kept[PLACE]


async def never_again() -> Outside:
    """The outside after an issue whose issuer answered no refresh token."""
    outside = with_code()
    outside.aws.issuer.refreshes = False
    outcome = await outside.reconcile(once())
    assert outcome.failure is None
    return outside


async def stalls(outside: Outside, after: timedelta) -> Attempt:
    outcome = await outside.reconcile(once(), after)
    assert outcome.failure
    assert outcome.failure.error.reason == "SourceConsumed"
    return outcome


async def test_a_code_is_sent_once_and_then_what_it_gave() -> None:
    outside = with_code("seed")
    for _ in range(4):
        outcome = await outside.reconcile(once(), DUE)
        assert outcome.failure is None

    assert outside.aws.issuer.consumed == ["seed", "refresh-1", "refresh-2", "refresh-3"]
    assert kept(outside).value == outside.aws.issuer.live == "refresh-4"
    assert (outside.aws.issuer.reuses, outside.issuance().revision, outside.issuance().once) == (0, 4, False)


async def test_an_issuer_that_does_not_rotate_what_it_answered_for_the_code() -> None:
    outside = with_code("seed")
    await outside.reconcile(once())
    outside.aws.issuer.rotates = False
    for _ in range(3):
        await outside.reconcile(once(), DUE)

    assert (kept(outside).value, outside.issuance().revision) == ("refresh-1", 4)


async def test_without_a_refresh_token_it_is_issued_once_and_stalls_before_it_expires() -> None:
    outside = await never_again()
    first = await outside.reconcile(once(), MINUTE)
    told = first.status
    later = (await stalls(outside, DUE)).status

    assert (told.renewal_time, kept(outside).value, outside.issuance().once) == (None, "", True)
    assert [(c.type, c.status, c.reason) for c in later.conditions] == [
        ("Ready", "True", "Issued"),
        ("Renewed", "False", "SourceConsumed"),
        ("Stalled", "True", "SourceConsumed"),
    ]
    assert outside.now < outside.issuance().expires


async def test_it_is_never_tried_again() -> None:
    outside = await never_again()
    calls = outside.exchanges
    for _ in range(50):
        await stalls(outside, HOUR)
    outside.restart()
    outside.secrets.delete("acme")
    for _ in range(3):
        await stalls(outside, HOUR)

    assert outside.aws.issuer.consumed == ["seed"]
    assert outside.exchanges == calls


async def test_a_new_code_starts_again_at_once() -> None:
    outside = await never_again()
    await stalls(outside, DUE)
    outside.secrets.put("sign-in", data={"code": outside.aws.issuer.sign_in()})
    outcome = await outside.reconcile(once(), SECOND)

    assert (outcome.reason, outcome.failure, outside.issuance().revision) == ("SourceChanged", None, 2)


async def test_a_code_that_gitops_puts_back_is_no_news() -> None:
    outside = with_code("seed")
    for _ in range(2):
        await outside.reconcile(once(), DUE)
    outside.secrets.put("sign-in", data={"code": "seed"})
    outcome = await outside.reconcile(once(), MINUTE)

    assert outcome.reason == ""


async def test_a_refused_code_is_not_sent_again() -> None:
    outside = with_code("another")
    first = await outside.reconcile(once())
    later = await stalls(outside, HOUR)
    again = await stalls(outside, HOUR)

    assert first.failure
    assert first.failure.error.reason == "SourceInvalid"
    assert later.failure
    assert later.failure.error.message.endswith("; the last attempt failed: invalid_grant")
    assert again.failure
    assert again.failure.error.message == later.failure.error.message
    assert kept(outside).is_consumed


@pytest.mark.parametrize(("may_concern_token", "sent"), [(True, 1), (False, 3)], ids=["its own error", "of the client"])
async def test_a_code_that_may_be_refused_itself_is_not_sent_again(*, may_concern_token: bool, sent: int) -> None:
    outside, points = with_code("seed"), []

    async def refuse(point: str) -> None:
        if point == "before IdentityCenterCreateToken":
            points.append(point)
            error = RefusedError("AccessDenied", "refused", may_concern_token=may_concern_token)
            raise error

    outside.watch(refuse)
    for _ in range(3):
        await outside.reconcile(once(), HOUR)

    assert len(points) == sent


async def test_a_code_that_was_not_looked_at_is_sent_again() -> None:
    outside = with_code("seed")
    outside.aws.issuer.unavailable = 1
    first = await outside.reconcile(once())
    second = await outside.reconcile(once(), 10 * MINUTE)

    assert first.failure
    assert second.failure is None
    assert outside.aws.issuer.consumed == ["seed"]


async def test_a_lost_answer_is_a_doubt_and_one_careful_try() -> None:
    outside = with_code("seed")
    outside.aws.issuer.lost = 1
    reasons = []
    for after in (SECOND, 31 * SECOND, 31 * SECOND, HOUR, HOUR):
        outcome = await outside.reconcile(once(), after)
        reasons.append((outcome.failure.error.reason if outcome.failure else "", outside.aws.issuer.reuses))

    assert {reason for reason, _ in reasons} == {"RefreshOutcomeUnknown"}
    assert reasons[-1][1] == 1


async def test_a_failure_after_the_code_was_spent_is_told_with_it() -> None:
    outside = with_code("seed")
    outside.aws.issuer.refreshes = False
    outside.aws.failures.append(RefusedError("AccessDenied", "a trust policy", eventually_consistent=True))
    first = await outside.reconcile(once())
    assert first.failure
    later = await stalls(outside, HOUR)

    assert first.failure.error.reason == "AccessDenied"
    assert first.failure.failed_at
    wait = first.failure.next_attempt_time - first.failure.failed_at
    assert wait >= (REASONS["AccessDenied"].retry_after or timedelta())
    assert later.failure
    assert "a trust policy" in later.failure.error.message


async def test_nothing_is_sent_where_the_secret_could_not_be_written() -> None:
    outside = with_code("seed")
    outside.secrets.failures["rehearse"] = RefusedError("WriteDenied", "a policy")
    await outside.reconcile(once())

    assert outside.aws.issuer.consumed == []


async def test_a_new_code_is_not_sent_where_the_secret_could_not_be_written_any_more() -> None:
    outside = await never_again()
    outside.secrets.put("sign-in", data={"code": outside.aws.issuer.sign_in()})
    outside.secrets.failures["rehearse"] = RefusedError("WriteDenied", "a quota")
    outcome = await outside.reconcile(once(), MINUTE)

    assert outcome.failure
    assert outcome.failure.error.reason == "WriteDenied"
    assert outside.aws.issuer.consumed == []


async def test_the_refresh_token_of_one_step_is_not_taken_for_that_of_another() -> None:
    given: list[str | None] = []

    async def exchange(_: Request, step: StepSpec, held: PipelineValues) -> PipelineValues:
        given.append(held.refresh_token)
        answer = dataclasses.replace(held, access_token=Token("token", outside.now + HOUR), refresh_token="refresh")
        return answer if step.oauth_token or step.identity_center_create_token else held

    outside = with_code()
    steps = [REFRESH, *SHOWN_ONCE.values()]
    wanted = request(source=BOTH, exchanges=steps, target={"formats": [{"token": {}}]})
    outcome = await attempt(dataclasses.replace(outside.deps, exchange=exchange), wanted, ReconcileState())

    assert outcome.failure is None
    assert given == [None, None, None, None]


async def test_other_formats_wait_for_the_next_time() -> None:
    outside = with_code("seed")
    await outside.reconcile(once())
    outcome = await outside.reconcile(once(target={"formats": [{"env": {}}]}), MINUTE)

    assert outcome.reason == ""
    assert len(outside.aws.issuer.consumed) == 1


@pytest.mark.parametrize("step", SHOWN_ONCE.values(), ids=SHOWN_ONCE)
async def test_the_source_token_is_what_works_once(step: dict[str, Any]) -> None:
    outside = with_code()
    jwt = outside.aws.issuer.live = signed(outside.now, outside.now + DAY)
    outside.secrets.put("license", data={"license_token": jwt})
    wanted = request(source=BOTH, exchanges=[step, ASSUME_ROLE])
    for _ in range(40):
        outcome = await outside.reconcile(wanted, DUE)
        assert outcome.failure is None

    assert outside.aws.issuer.consumed[:2] == [jwt, "refresh-1"]
    assert (outside.issuance().source_expires, outside.aws.issuer.reuses) == (None, 0)
    assert outside.tokens.kept["billing", "license-keyturn"].value == outside.aws.issuer.live


async def test_what_was_answered_for_it_has_an_end_too() -> None:
    outside = with_code("seed")
    outside.aws.issuer.refresh_life = 30 * MINUTE
    await outside.reconcile(once())

    assert outside.issuance().source_expires == outside.now + 30 * MINUTE
    assert outside.issuance().renew == outside.now + 20 * MINUTE


@pytest.mark.parametrize("times", [1, 7])
async def test_the_answer_to_the_code_is_saved_until_it_holds(times: int) -> None:
    outside = with_code("seed")
    outside.tokens.failures["save"] = [UnavailableError("Unreachable", "away")] * times
    outcome = await outside.reconcile(once())

    assert outcome.failure is None
    assert kept(outside).value == outside.aws.issuer.live


@pytest.mark.parametrize("step", SHOWN_ONCE.values(), ids=SHOWN_ONCE)
async def test_of_a_token_that_is_made_anew_nothing_is_kept(step: dict[str, Any]) -> None:
    wanted = request(source=BOTH | {"token": {"serviceAccount": {"name": "app"}}}, exchanges=[step, ASSUME_ROLE])

    assert wanted.spec.consumption is None
    assert {"base"} <= wanted.spec.secrets_read <= {"base", "client"}


async def test_an_answered_token_is_shown_to_no_other_application() -> None:
    outside = with_code()
    jwt = outside.aws.issuer.live = signed(outside.now, outside.now + DAY)
    outside.secrets.put("license", data={"license_token": jwt})
    steps = ({"identityCenterCreateToken": ASSERTION | APPLICATION | {"clientId": f"{APPLICATION['clientId']}{n}"}}
             for n in (1, 2))  # fmt: skip
    first, second = (request(f"acme-{n}", source=BOTH, exchanges=[step, ASSUME_ROLE]) for n, step in enumerate(steps))
    assert (await outside.reconcile(first)).failure is None
    refused = await outside.reconcile(second, MINUTE)

    assert refused.failure
    assert refused.failure.error.reason == "TargetConflict"
    assert outside.aws.issuer.consumed == [jwt]
