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


async def test_consumed_token_is_found_among_those_of_many_sources() -> None:
    env = environment("seed")
    for number in range(30):
        env.secrets.put(f"source-{number}", data={"license_token": env.aws.issuer.sign_in()})
        assert (
            await env.reconcile(rotating_request(f"acme-{number}", f"source-{number}", f"token-{number}"))
        ).failure is None
    env.secrets.put("renamed", data=env.secrets.data("source-29"))

    assert (
        await env.reconcile(rotating_request("acme", "renamed", "renamed-token"))
    ).failure_reason == "TargetConflict"
    assert env.aws.issuer.reuses == 0


async def test_unreplaced_token_is_used_by_both_sources_after_an_outage() -> None:
    """The first source waits longer for the result than the second one for the first."""
    env = environment("seed")
    env.aws.issuer.rotates, env.aws.issuer.lost = False, 1
    env.secrets.put("renamed", data={"license_token": "seed"})
    first, other = rotating(), rotating_request("other", "renamed", "renamed-token")
    await env.reconcile(first)
    env.aws.issuer.unavailable = 1
    for it, after in ((other, SECOND), (first, 40 * SECOND), (other, SECOND), (other, 2 * MINUTE)):
        waiting = await env.reconcile(it, after)
    assert (await env.reconcile(first, MINUTE)).failure is None
    assert waiting.failure
    assert waiting.failure.next_attempt_time < env.now + MINUTE

    assert (await env.reconcile(other, MINUTE)).failure is None
