import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from keyturn.api.token_request import Request
from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.token_family import StoredToken
from tests.support.dependencies import HOUR, MINUTE, NOW, SECOND, Outside, deps, rotating

GIVEN_UP = 31 * SECOND
DUE = 45 * MINUTE


def kept(outside: Outside) -> StoredToken:
    return outside.tokens.kept["billing", "license-keyturn"]


async def consumed(times: int = 1) -> Outside:
    """The outside after so many renewals of a rotating source."""
    outside = deps("seed")
    for _ in range(times):
        outcome = await outside.reconcile(rotating(), DUE)
        assert outcome.failure is None
    return outside


async def test_the_new_token_is_saved_and_the_source_is_left_alone() -> None:
    outside = await consumed()

    assert kept(outside).value == outside.aws.issuer.live == "refresh-1"
    assert outside.secrets.get("license").data == {"license_token": "seed"}


async def test_the_intent_is_written_before_and_gone_after() -> None:
    outside = await consumed(2)

    family = kept(outside).family
    assert family
    assert family.intent is None
    assert outside.tokens.calls == {"read": 2, "create": 1, "rehearse": 2, "intend": 2, "save": 2}


async def test_twenty_renewals_spend_twenty_tokens_in_order() -> None:
    outside = await consumed(20)

    assert outside.aws.issuer.consumed == ["seed", *(f"refresh-{n}" for n in range(1, 20))]
    assert outside.aws.issuer.reuses == 0


@pytest.mark.parametrize("life", [HOUR, 12 * HOUR], ids=str)
async def test_the_source_ends_when_the_token_does_that_is_kept_now(life: timedelta) -> None:
    """Keycloak's: a JWT that lives for half an hour, less than the credentials that come of it."""
    outside = deps("seed")
    outside.aws.life, outside.aws.issuer.refresh_life = life, 30 * MINUTE
    for _ in range(4):
        outcome = await outside.reconcile(rotating())

        assert (outcome.failure, outcome.reason == "") == (None, False)
        assert outside.issuance().source_expires == outside.now + 30 * MINUTE
        assert outside.issuance().renew == outside.now + 20 * MINUTE
        outside.now += 20 * MINUTE


async def test_what_fails_is_tried_again_before_the_token_ends() -> None:
    outside = deps("seed")
    outside.aws.issuer.refresh_life, outside.rand = 30 * MINUTE, 0.999
    await outside.reconcile(rotating())
    outside.now = outside.issuance().renew
    while outside.now < NOW + 29 * MINUTE:
        outside.aws.failures = [UnavailableError("Unreachable", "away")]
        failure = (await outside.reconcile(rotating())).failure

        assert failure
        outside.now = failure.next_attempt_time

    assert outside.now < NOW + 30 * MINUTE


async def test_another_renewal_time_does_not_outlive_the_token() -> None:
    outside = deps("seed")
    outside.aws.issuer.refresh_life = 30 * MINUTE
    await outside.reconcile(rotating())
    await outside.reconcile(rotating(renewal={"renewBefore": "5m"}))

    assert (outside.issuance().revision, outside.issuance().renew) == (1, NOW + 20 * MINUTE)


async def test_three_requests_of_one_source_spend_in_order() -> None:
    outside = deps("seed")
    requests = [rotating(name) for name in ("a", "b", "c")]
    for _ in range(20):
        outside.now += DUE
        waiting = requests
        while waiting:
            # Those that find the token in use come back in a second.
            outside.now += SECOND
            done = await asyncio.gather(*(outside.reconcile(one) for one in waiting))
            waiting = [one for one, attempt in zip(waiting, done, strict=True) if not attempt.tried]

    assert len(outside.aws.issuer.consumed) == 60
    assert outside.aws.issuer.reuses == 0


async def test_an_issuer_that_does_not_rotate_leaves_the_token_as_it_is() -> None:
    outside = deps("seed")
    outside.aws.issuer.rotates = False
    for _ in range(3):
        await outside.reconcile(rotating(), DUE)

    assert kept(outside).value == "seed"
    assert outside.issuance().revision == 3


@pytest.mark.parametrize(
    "again",
    [
        pytest.param("seed", id="GitOps puts the seed back"),
        pytest.param("refresh-3", id="somebody copies a spent token into the source"),
    ],
)
async def test_a_source_of_the_lineage_is_no_news(again: str) -> None:
    outside = await consumed(5)
    outside.secrets.put("license", data={"license_token": again})

    outcome = await outside.reconcile(rotating(), MINUTE)

    assert outcome.reason == ""
    assert len(outside.aws.issuer.consumed) == 5


async def test_a_new_token_in_the_source_starts_a_new_lineage_at_once() -> None:
    outside = await consumed(3)
    outside.secrets.put("license", data={"license_token": outside.aws.issuer.sign_in()})

    outcome = await outside.reconcile(rotating(), MINUTE)

    assert outcome.reason == "SourceChanged"
    assert kept(outside).value == outside.aws.issuer.live


async def test_a_token_secret_put_back_to_a_spent_token_spends_nothing() -> None:
    outside = await consumed(3)
    old = StoredToken("refresh-1", kept(outside).family, uid=kept(outside).uid, version="9999")
    outside.tokens.kept["billing", "license-keyturn"] = old

    outcome = await outside.reconcile(rotating(), DUE)

    assert outcome.failure
    assert outcome.failure.error.reason == "StaleTokenRestored"
    assert (len(outside.aws.issuer.consumed), outside.aws.issuer.reuses) == (3, 0)


async def test_a_token_secret_of_somebody_else_is_not_written() -> None:
    outside = deps("seed")
    outside.tokens.kept["billing", "license-keyturn"] = StoredToken("theirs", None, uid="u", version="1")

    outcome = await outside.reconcile(rotating())

    assert outcome.failure
    assert outcome.failure.error.reason == "TargetConflict"
    assert outside.aws.issuer.consumed == []


async def test_a_new_request_for_the_same_source_goes_on_with_the_live_token() -> None:
    outside = await consumed(3)
    outside.secrets.delete("acme")
    outside.restart()

    outcome = await outside.reconcile(rotating(), MINUTE)

    assert outcome.failure is None
    assert outside.aws.issuer.reuses == 0


async def test_the_save_goes_on_until_it_holds() -> None:
    outside = deps("seed")
    outside.tokens.failures["save"] = [UnavailableError("Unreachable", "away")] * 7

    outcome = await outside.reconcile(rotating())

    assert outcome.failure is None
    assert kept(outside).value == outside.aws.issuer.live


async def test_a_cancelled_renewal_still_saves_the_token_that_was_answered() -> None:
    outside = deps("seed")
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def wait_after_the_exchange(where: str) -> None:
        if where == "after OauthToken":
            asked.set()
            await go_on.wait()

    outside.checkpoint = wait_after_the_exchange
    looking = asyncio.create_task(outside.reconcile(rotating()))
    await asked.wait()
    looking.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await looking

    assert kept(outside).value == outside.aws.issuer.live


async def test_a_refused_rehearsal_spends_nothing() -> None:
    outside = await consumed()
    outside.tokens.failures["rehearse"] = [RefusedError("WriteDenied", "a policy")]

    outcome = await outside.reconcile(rotating(), DUE)

    assert outcome.failure
    assert outcome.failure.error.reason == "WriteDenied"
    assert len(outside.aws.issuer.consumed) == 1


async def test_an_issuer_that_was_not_reached_leaves_no_doubt() -> None:
    outside = await consumed()
    outside.aws.issuer.unavailable = 1
    await outside.reconcile(rotating(), DUE)

    family = kept(outside).family
    assert family
    assert family.intent is None


def lose_the_answer(outside: Outside) -> None:
    outside.aws.issuer.lost = 1


def die_with_an_intent(outside: Outside) -> None:
    async def die(where: str) -> None:
        if where == "before OauthToken":
            raise asyncio.CancelledError

    outside.checkpoint = die


@pytest.mark.parametrize(
    ("trouble", "survives"),
    [
        pytest.param(lose_the_answer, False, id="the answer was lost: the one careful try is refused"),
        pytest.param(die_with_an_intent, True, id="died before sending: the one careful try succeeds"),
    ],
)
async def test_a_doubt_is_waited_out_and_tried_once(trouble: Callable[[Outside], None], *, survives: bool) -> None:
    outside = await consumed()
    trouble(outside)
    try:
        await outside.reconcile(rotating(), DUE)
    except asyncio.CancelledError:
        outside.restart()
        outside.__post_init__()
        outside.checkpoint = type(outside)().checkpoint
    reasons = [await reason(outside, rotating(), after) for after in (SECOND, GIVEN_UP, GIVEN_UP)]

    assert reasons[0] == "RefreshOutcomeUnknown"
    assert (reasons[2] == "") is survives
    assert outside.aws.issuer.reuses == (0 if survives else 1)


async def test_after_the_careful_try_the_token_is_never_sent_again() -> None:
    outside = await consumed()
    outside.aws.issuer.lost = 1
    for after in (DUE, GIVEN_UP, GIVEN_UP, HOUR, HOUR, HOUR):
        await outside.reconcile(rotating(), after)

    assert outside.aws.issuer.reuses == 1


@pytest.mark.parametrize(
    ("may_concern_token", "tries"),
    [
        pytest.param(False, 2, id="the client was refused: the token was not looked at, so it is tried again"),
        pytest.param(True, 1, id="an error of its own may be of the token: that was the careful try"),
    ],
)
async def test_what_a_refused_careful_try_says_of_the_token(*, may_concern_token: bool, tries: int) -> None:
    outside, sent = await consumed(), []
    outside.aws.issuer.lost = 1
    await outside.reconcile(rotating(), DUE)

    async def refuse(point: str) -> None:
        if point == "before OauthToken":
            sent.append(point)
            error = RefusedError("AccessDenied", "refused", may_concern_token=may_concern_token)
            raise error

    outside.watch(refuse)
    for _ in range(3):
        await outside.reconcile(rotating(), HOUR)

    assert len(sent) == tries


async def test_a_new_token_ends_the_doubt() -> None:
    outside = await consumed()
    outside.aws.issuer.lost = 1
    for after in (DUE, GIVEN_UP, GIVEN_UP):
        await outside.reconcile(rotating(), after)
    outside.secrets.put("license", data={"license_token": outside.aws.issuer.sign_in()})

    outcome = await outside.reconcile(rotating(), MINUTE)

    assert outcome.failure is None


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"target": {"formats": [{"env": {}}]}}, id="other formats"),
        pytest.param({"target": {"secretName": "elsewhere"}}, id="another Secret"),
    ],
)
async def test_what_only_moves_waits_for_its_time(change: dict[str, Any]) -> None:
    outside = await consumed()

    await outside.reconcile(rotating(**change), MINUTE)
    assert len(outside.aws.issuer.consumed) == 1

    await outside.reconcile(rotating(**change), DUE)
    assert len(outside.aws.issuer.consumed) == 2


async def reason(outside: Outside, wanted: Request, after: timedelta) -> str:
    outcome = await outside.reconcile(wanted, after)
    return outcome.failure.error.reason if outcome.failure else ""
