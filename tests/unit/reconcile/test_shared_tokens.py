"""No refresh token is sent twice, although several sources and token Secrets contain it."""

import asyncio
from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from keyturn.api.token_request import Request
from keyturn.core.token_family import TOKEN_FAMILY_ANNOTATION, read_family
from tests.support.dependencies import HOUR, MINUTE, SECOND, environment, rotating
from tests.support.rotation import ManyFamiliesIssuer

SOURCES = ("license", "copy")
TOKEN_SECRETS = ("license-keyturn", "copy-keyturn", "live", "other")


def rotating_request(name: str, source: str, secret: str) -> Request:
    """Return a request with this source Secret and this token Secret."""
    ref = {"name": source, "key": "license_token"}
    return rotating(name, source={"token": {"secretKeyRef": ref, "saveTo": {"secretName": secret}}})


REQUESTS = (
    rotating_request("a", "license", "license-keyturn"),
    rotating_request("b", "license", "live"),
    rotating_request("c", "copy", "copy-keyturn"),
    rotating_request("d", "copy", "copy-keyturn"),
    rotating_request("e", "copy", "other"),
)


class SharedTokens(RuleBasedStateMachine):
    """TokenRequests with two sources, among which a user copies tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.env = environment("seed")
        self.env.secrets.put("copy", data={"license_token": "seed"})
        self.issuer = self.env.aws.issuer = ManyFamiliesIssuer()

    def teardown(self) -> None:
        self.runner.close()

    @rule(
        requests=st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=3, unique=True),
        after=st.sampled_from([SECOND, MINUTE, HOUR]),
        unavailable=st.integers(0, 2),
    )
    def reconcile_together(self, requests: list[Request], after: timedelta, unavailable: int) -> None:
        self.env.now += after
        self.issuer.unavailable = unavailable

        async def reconcile() -> None:
            await asyncio.gather(*(self.env.reconcile(it) for it in requests))

        self.runner.run(reconcile())

    @rule(sources=st.sampled_from([("license",), ("copy",), SOURCES]))
    def sign_in(self, sources: tuple[str, ...]) -> None:
        token = self.issuer.sign_in()
        for source in sources:
            self.env.secrets.put(source, data={"license_token": token})

    @rule(copied=st.sampled_from(SOURCES + TOKEN_SECRETS), source=st.sampled_from(SOURCES))
    def copy_token(self, copied: str, source: str) -> None:
        if copied in self.env.secrets.names():
            self.env.secrets.put(source, data={"license_token": self.env.secrets.data(copied)["license_token"]})

    @rule()
    def restart(self) -> None:
        self.env.restart()
        for name in self.env.secrets.names():
            family = read_family(self.env.secrets.meta(name).annotations.get(TOKEN_FAMILY_ANNOTATION, ""))
            self.env.token_locks.observe_family("billing", name, family)

    @invariant()
    def no_consumed_token_is_sent(self) -> None:
        assert self.issuer.reuses == 0


def test_copied_tokens_are_never_sent_twice() -> None:
    run_state_machine_as_test(
        SharedTokens,
        settings=settings(
            max_examples=80, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
