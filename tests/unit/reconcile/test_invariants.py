"""The guarantees of docs/design/guarantees.md as invariants, checked after random sequences of events."""

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
from keyturn.core.issuance import ISSUANCE_ANNOTATION, IssuanceKeys, data_hash
from tests.support.crash import SENT, crash, die
from tests.support.dependencies import (
    ASSUME_ROLE,
    CODE,
    HOUR,
    MINUTE,
    REFRESH,
    SECOND,
    Attempt,
    FakeEnvironment,
    request,
    with_code,
)
from tests.support.issuance import ISSUANCE
from tests.support.rotation import no_checkpoint

TARGETS = ("acme", "elsewhere")
FORMATS: tuple[list[dict[str, Any]], ...] = (
    [{"env": {}}],
    [{"credentialProcess": {}}],
    [{"env": {}}, {"token": {}}],
)
EDITS: tuple[dict[str, Any], ...] = (
    {"data": {"AWS_REGION": "x"}},
    {"annotations": {ISSUANCE_ANNOTATION: "{}"}},
    {"annotations": {ISSUANCE_ANNOTATION: ISSUANCE.encoded()}},
)
API_FAILURES = (
    UnavailableError("Unreachable", "no response from the API server"),
    RefusedError("WriteDenied", "denied by a policy"),
)
AWS_FAILURES = (
    UnavailableError("Unavailable", "AWS returned HTTP 500"),
    RefusedError("AccessDenied", "a trust policy"),
)
MOMENTS = st.sampled_from([SECOND, 31 * SECOND, 2 * MINUTE, 31 * MINUTE, 45 * MINUTE, 3 * HOUR])


class Guarantees(RuleBasedStateMachine):
    """One request with a rotated source token, and all events that may affect it."""

    SOURCE = ("license", "license_token")
    SPEC: ClassVar[dict[str, Any]] = {"exchanges": [REFRESH, ASSUME_ROLE]}

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.env: FakeEnvironment = with_code("seed")
        self.env.secrets.put("license", data={"license_token": "seed"})
        self.spec: dict[str, Any] = {**self.SPEC}
        self.status = Status()
        self.last: Attempt | None = None
        self.unknown_outcomes = 0
        self.token_lost = False

    def teardown(self) -> None:
        self.runner.close()

    @property
    def token_request(self) -> Request:
        return request(**self.spec)

    @initialize()
    def create_foreign_secret(self) -> None:
        self.env.secrets.put("theirs", data={"password": "x"})

    # Time and users.

    @rule(after=MOMENTS)
    def wait(self, after: timedelta) -> None:
        self._reconcile(after)

    @rule(jump=st.sampled_from([-HOUR, -31 * MINUTE, HOUR, 30 * HOUR]))
    def set_clock_by(self, jump: timedelta) -> None:
        self.env.set_clock(jump)
        self._reconcile()

    @rule(formats=st.sampled_from(FORMATS), secret=st.sampled_from(TARGETS), suspend=st.booleans())
    def change_spec(self, formats: object, secret: str, *, suspend: bool) -> None:
        self.spec |= {"target": {"formats": formats, "secretName": secret}, "suspend": suspend}
        self._reconcile()

    @rule(secret=st.sampled_from(TARGETS))
    def delete_secret(self, secret: str) -> None:
        self.env.secrets.delete(secret)
        self._reconcile()

    @rule(secret=st.sampled_from(TARGETS), edit=st.sampled_from(EDITS))
    def edit_secret(self, secret: str, edit: dict[str, Any]) -> None:
        if secret in self.env.secrets.names():
            self.env.secrets.put(secret, **edit)
        self._reconcile()

    @rule()
    def lose_issuance_key(self) -> None:
        number = max(self.env.secrets.keys.keys) + 1
        self.env.secrets.keys = IssuanceKeys({number: b"k" * 32})
        self.env.restart()
        self._reconcile()

    @rule()
    def sign_in_again(self) -> None:
        self._put_source(self.env.aws.issuer.sign_in())
        self.token_lost = False
        self._reconcile()

    @rule()
    def restore_source_from_gitops(self) -> None:
        consumed = self.env.aws.issuer.consumed
        if consumed:
            self._put_source(consumed[0])
        self._reconcile()

    # Failures.

    @rule(number=st.integers(1, 16))
    def kill_process(self, number: int) -> None:
        consumed_tokens = len(self.env.aws.issuer.consumed)
        point = self.runner.run(crash(self.env, self.token_request, number, die))
        if len(self.env.aws.issuer.consumed) > consumed_tokens and point in SENT:
            self.unknown_outcomes, self.token_lost = self.unknown_outcomes + 1, True
        self.env.restart()
        self._reconcile()

    @rule()
    def restart_process(self) -> None:
        self.env.restart()
        self._reconcile()

    @rule(
        name=st.sampled_from(["read_source", "read_target", "dry_run", "write"]),
        error=st.sampled_from(API_FAILURES),
        after=MOMENTS,
    )
    def fail_api_server(self, name: str, error: KeyturnError, after: timedelta) -> None:
        self.env.store.failures[name] = [error]
        self._reconcile(after)
        self.env.store.failures.clear()

    @rule(name=st.sampled_from(["dry_run", "update", "save"]), times=st.integers(1, 4), after=MOMENTS)
    def fail_token_store(self, name: str, times: int, after: timedelta) -> None:
        self.env.tokens.failures[name] = [UnavailableError("Unreachable", "no response")] * times
        self._reconcile(after)
        self.env.tokens.failures.clear()

    @rule(error=st.sampled_from(AWS_FAILURES), after=MOMENTS)
    def fail_aws(self, error: KeyturnError, after: timedelta) -> None:
        self.env.aws.failures.append(error)
        self._reconcile(after)
        self.env.aws.failures.clear()

    @rule(lost=st.booleans(), after=MOMENTS)
    def fail_issuer(self, *, lost: bool, after: timedelta) -> None:
        issuer = self.env.aws.issuer
        before = len(issuer.consumed)
        issuer.lost, issuer.unavailable = int(lost), int(not lost)
        self._reconcile(after)
        if lost and len(issuer.consumed) > before:
            self.unknown_outcomes, self.token_lost = self.unknown_outcomes + 1, True
        issuer.lost = issuer.unavailable = 0

    def _put_source(self, token: str) -> None:
        self.env.secrets.put(self.SOURCE[0], data={self.SOURCE[1]: token})

    def _reconcile(self, after: timedelta = timedelta()) -> None:
        consumed, calls = len(self.env.aws.issuer.consumed), len(self.env.aws.calls)
        self.env.watch(no_checkpoint)
        self.last = self.runner.run(self.env.reconcile(self.token_request, after))
        self.status = self.last.status
        self.consumed_tokens = len(self.env.aws.issuer.consumed) - consumed
        self.calls = len(self.env.aws.calls) - calls

    # Invariants.

    @invariant()
    def consumed_token_is_sent_only_in_a_final_attempt(self) -> None:
        assert self.env.aws.issuer.reuses <= self.unknown_outcomes

    @invariant()
    def received_token_is_stored(self) -> None:
        name, issuer = f"{self.SOURCE[0]}-keyturn", self.env.aws.issuer
        if not self.token_lost and issuer.consumed:
            assert self.env.stored_token(name).value == issuer.live

    @invariant()
    def reconciliation_without_renewal_exchanges_nothing(self) -> None:
        if self.last and not self.last.tried:
            assert (self.consumed_tokens, self.calls) == (0, 0)

    @invariant()
    def ready_request_has_valid_credentials(self) -> None:
        ready = self.status.condition("Ready")
        if ready and ready.status == "True":
            secret = self.token_request.secret_name
            issuance, data = self.env.issuance(secret), self.env.secrets.data(secret)
            assert self.env.now < issuance.expires
            assert issuance.request_hash == self.token_request.request_hash
            assert issuance.data_hash == data_hash({key: data[key] for key in issuance.keys}, self.token_request)

    @invariant()
    def foreign_secrets_are_unchanged(self) -> None:
        assert self.env.secrets.data("theirs") == {"password": "x"}
        assert self.env.secrets.data(self.SOURCE[0]).keys() == {self.SOURCE[1]}

    @invariant()
    def failure_reports_next_attempt_time(self) -> None:
        renewed = self.status.condition("Renewed")
        if renewed and renewed.status == "False":
            assert bool(self.status.next_attempt_time) != self.spec.get("suspend", False)

    @invariant()
    def result_contains_no_secret(self) -> None:
        output = repr(self.last)
        issuer = self.env.aws.issuer
        assert not any(token in output for token in (*issuer.consumed, issuer.live) if token)


class SingleUseGuarantees(Guarantees):
    """The same with a single-use source credential."""

    SOURCE = ("sign-in", "code")
    SPEC: ClassVar[dict[str, Any]] = {
        "exchanges": [CODE, ASSUME_ROLE],
        "source": {"credentials": {"secretRef": {"name": "base"}}},
    }


def check_guarantees(guarantees: type[Guarantees], examples: int) -> None:
    hypothesis_settings = settings(
        max_examples=examples,
        stateful_step_count=25,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(guarantees, settings=hypothesis_settings)


@pytest.mark.parametrize("guarantees", [Guarantees, SingleUseGuarantees])
def test_guarantees_hold(guarantees: type[Guarantees]) -> None:
    check_guarantees(guarantees, 200)


@pytest.mark.long
@pytest.mark.parametrize("guarantees", [Guarantees, SingleUseGuarantees])
def test_guarantees_hold_in_ten_thousand_runs(guarantees: type[Guarantees]) -> None:
    check_guarantees(guarantees, 10_000)
