"""The promises of docs/design/guarantees.md as invariants: whatever happens, in whatever order."""

import asyncio
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from keyturn.api.status import Status
from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError, RefusedError, UnavailableError
from keyturn.core.issuance import ISSUANCE_ANNOTATION
from tests.support.dependencies import (
    ASSUME_ROLE,
    CODE,
    HOUR,
    MINUTE,
    REFRESH,
    SECOND,
    Attempt,
    Outside,
    request,
    with_code,
)
from tests.support.rotation import nothing
from tests.unit.reconcile.test_crash import SENT, crash, die

TARGETS = ("acme", "elsewhere")
FORMATS: tuple[list[dict[str, Any]], ...] = (
    [{"env": {}}],
    [{"credentialProcess": {}}],
    [{"env": {}}, {"token": {}}],
)
API_FAILURES = (
    UnavailableError("Unreachable", "the API server did not answer"),
    RefusedError("WriteDenied", "a policy"),
)
AWS_FAILURES = (
    UnavailableError("Unavailable", "AWS answered 500"),
    RefusedError("AccessDenied", "a trust policy"),
)
MOMENTS = st.sampled_from([SECOND, 31 * SECOND, 2 * MINUTE, 31 * MINUTE, 45 * MINUTE, 3 * HOUR])


class Promises(RuleBasedStateMachine):
    """One request, with a source that its issuer rotates, and all that may happen to it."""

    SOURCE = ("license", "license_token")
    SPEC: ClassVar[dict[str, Any]] = {"exchanges": [REFRESH, ASSUME_ROLE]}

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.outside: Outside = with_code("seed")
        self.outside.secrets.put("license", data={"license_token": "seed"})
        self.spec: dict[str, Any] = {**self.SPEC}
        self.status = Status()
        self.last: Attempt | None = None
        self.doubts = 0
        self.spoilt = False

    def teardown(self) -> None:
        self.runner.close()

    @property
    def wanted(self) -> Request:
        return request(**self.spec)

    @initialize()
    def somebody_elses_secret(self) -> None:
        self.outside.secrets.put("theirs", data={"password": "x"})

    # What time and users do.

    @rule(after=MOMENTS)
    def time_passes(self, after: timedelta) -> None:
        self._reconcile(after)

    @rule(jump=st.sampled_from([-HOUR, -31 * MINUTE, HOUR, 30 * HOUR]))
    def the_clock_is_set(self, jump: timedelta) -> None:
        self.outside.set_clock(jump)
        self._reconcile()

    @rule(formats=st.sampled_from(FORMATS), secret=st.sampled_from(TARGETS), suspend=st.booleans())
    def the_spec_changes(self, formats: object, secret: str, *, suspend: bool) -> None:
        self.spec |= {"target": {"formats": formats, "secretName": secret}, "suspend": suspend}
        self._reconcile()

    @rule(secret=st.sampled_from(TARGETS))
    def the_secret_is_deleted(self, secret: str) -> None:
        self.outside.secrets.delete(secret)
        self._reconcile()

    @rule(secret=st.sampled_from(TARGETS), what=st.sampled_from(["data", "marks"]))
    def the_secret_is_edited(self, secret: str, what: str) -> None:
        if secret in self.outside.secrets.names():
            change: dict[str, Any] = (
                {"data": {"AWS_REGION": "x"}} if what == "data" else {"annotations": {ISSUANCE_ANNOTATION: "{}"}}
            )
            self.outside.secrets.put(secret, **change)
        self._reconcile()

    @rule()
    def the_user_signs_in_again(self) -> None:
        self._hand_in(self.outside.aws.issuer.sign_in())
        self.spoilt = False
        self._reconcile()

    @rule()
    def gitops_puts_the_source_back(self) -> None:
        consumed = self.outside.aws.issuer.consumed
        if consumed:
            self._hand_in(consumed[0])
        self._reconcile()

    # What fails.

    @rule(number=st.integers(1, 16))
    def the_process_dies(self, number: int) -> None:
        consumes = len(self.outside.aws.issuer.consumed)
        where = self.runner.run(crash(self.outside, self.wanted, number, die))
        if len(self.outside.aws.issuer.consumed) > consumes and where in SENT:
            self.doubts, self.spoilt = self.doubts + 1, True
        self.outside.restart()
        self._reconcile()

    @rule()
    def the_process_restarts(self) -> None:
        self.outside.restart()
        self._reconcile()

    @rule(
        name=st.sampled_from(["read_source", "read_target", "rehearse", "write"]),
        error=st.sampled_from(API_FAILURES),
        after=MOMENTS,
    )
    def the_api_server_fails(self, name: str, error: KeyturnError, after: timedelta) -> None:
        self.outside.secrets.failures[name] = error
        self._reconcile(after)
        self.outside.secrets.failures.clear()

    @rule(name=st.sampled_from(["rehearse", "intend", "save"]), times=st.integers(1, 4), after=MOMENTS)
    def the_token_is_hard_to_save(self, name: str, times: int, after: timedelta) -> None:
        self.outside.tokens.failures[name] = [UnavailableError("Unreachable", "away")] * times
        self._reconcile(after)
        self.outside.tokens.failures.clear()

    @rule(error=st.sampled_from(AWS_FAILURES), after=MOMENTS)
    def aws_fails(self, error: KeyturnError, after: timedelta) -> None:
        self.outside.aws.failures.append(error)
        self._reconcile(after)
        self.outside.aws.failures.clear()

    @rule(lost=st.booleans(), after=MOMENTS)
    def the_issuer_fails(self, *, lost: bool, after: timedelta) -> None:
        issuer = self.outside.aws.issuer
        before = len(issuer.consumed)
        issuer.lost, issuer.unavailable = int(lost), int(not lost)
        self._reconcile(after)
        if lost and len(issuer.consumed) > before:
            self.doubts, self.spoilt = self.doubts + 1, True
        issuer.lost = issuer.unavailable = 0

    def _hand_in(self, token: str) -> None:
        self.outside.secrets.put(self.SOURCE[0], data={self.SOURCE[1]: token})

    def _reconcile(self, after: timedelta = timedelta()) -> None:
        consumed, calls = len(self.outside.aws.issuer.consumed), len(self.outside.aws.calls)
        self.outside.watch(nothing)
        self.last = self.runner.run(self.outside.reconcile(self.wanted, after))
        self.status = self.last.status
        self.consumes = len(self.outside.aws.issuer.consumed) - consumed
        self.calls = len(self.outside.aws.calls) - calls

    # What holds all the same.

    @invariant()
    def no_spent_token_is_sent_but_by_one_careful_try_for_each_doubt(self) -> None:
        assert self.outside.aws.issuer.reuses <= self.doubts

    @invariant()
    def a_token_whose_answer_was_read_is_kept(self) -> None:
        kept = self.outside.tokens.kept.get(("billing", f"{self.SOURCE[0]}-keyturn"))
        issuer = self.outside.aws.issuer
        if kept and not self.spoilt and issuer.consumed:
            assert kept.value == issuer.live

    @invariant()
    def a_look_exchanges_at_most_once_and_only_with_a_reason(self) -> None:
        if self.last and not self.last.tried:
            assert (self.consumes, self.calls) == (0, 0)

    @invariant()
    def ready_means_usable_now(self) -> None:
        ready = self.status.condition("Ready")
        if ready and ready.status == "True":
            issuance = self.outside.issuance(self.wanted.secret_name)
            assert self.outside.now < issuance.expires
            assert issuance.request_hash == self.wanted.request_hash

    @invariant()
    def what_is_not_ours_is_left_alone(self) -> None:
        assert self.outside.secrets.get("theirs").data == {"password": "x"}
        assert self.outside.secrets.get(self.SOURCE[0]).data.keys() == {self.SOURCE[1]}

    @invariant()
    def a_failure_says_when_the_next_try_is(self) -> None:
        renewed = self.status.condition("Renewed")
        if renewed and renewed.status == "False":
            assert self.status.next_attempt_time

    @invariant()
    def no_secret_is_told(self) -> None:
        told = repr(self.last)
        issuer = self.outside.aws.issuer
        assert not any(token in told for token in (*issuer.consumed, issuer.live) if token)


class PromisesOfACode(Promises):
    """The same, where what the user hands in works once."""

    SOURCE = ("sign-in", "code")
    SPEC: ClassVar[dict[str, Any]] = {
        "exchanges": [CODE, ASSUME_ROLE],
        "source": {"credentials": {"secretRef": {"name": "base"}}},
    }


def run_promises(promises: type[Promises], examples: int) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(promises, settings=chosen)


@pytest.mark.parametrize("promises", [Promises, PromisesOfACode])
def test_the_promises_hold(promises: type[Promises]) -> None:
    run_promises(promises, 200)


@pytest.mark.long
@pytest.mark.parametrize("promises", [Promises, PromisesOfACode])
def test_the_promises_hold_in_ten_thousand_stories(promises: type[Promises]) -> None:
    run_promises(promises, 10_000)
