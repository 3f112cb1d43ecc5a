"""What makes each alert fire and resolve: requests in trouble, mended, a clock that is behind, a failover."""

import contextlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.prometheus.test_rules import ALERTS
from tests.e2e.test_rotation import rotating_request, sign_in
from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import LOOPBACK, Operator, running_operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import USER_KEY_ID, USER_SECRET_KEY
from tests.support.processes import until
from tests.support.prometheus.server import Prometheus

ABSENT, NO_LEADER, LATE = "KeyturnOperatorAbsent", "KeyturnNoLeader", "KeyturnRenewalsLate"
OF_REQUESTS = ALERTS.keys() - {ABSENT, NO_LEADER, LATE}
WATCHED = {"keyturn.dev/source": "true"}  # so that a new source is seen at once
FOR_EVER = 86400


@dataclass(slots=True)
class Story:
    """Where it happens, and which alerts fired when none should."""

    prometheus: Prometheus
    plane: ControlPlane
    namespace: Namespace
    aws: Emulator
    directory: Path
    numbers: Iterator[int] = field(default_factory=itertools.count)
    wrong: dict[str, set[str]] = field(default_factory=dict)
    metrics: str = ""

    def set_clock(self, ahead: float) -> None:
        """Set the operators' clock: so many seconds ahead of the real one."""
        (self.directory / "next").write_text(str(ahead))
        (self.directory / "next").rename(self.directory / "ahead")

    def operator(self, address: str) -> contextlib.AbstractContextManager[Operator]:
        """An operator that stands for the one Lease."""
        directory = self.directory / address.rpartition(":")[2]
        directory.mkdir()
        program = ("-m", "tests.support.cluster.clocked", str(self.directory / "ahead"))
        flags = (f"--probes-listen={address}",)
        return running_operator(self.plane, self.aws, directory, flags=flags, settings=LOOPBACK, program=program)

    def lease(self, **spec: object) -> None:
        """Write the Lease, as somebody else."""
        about = {"name": "keyturn", "namespace": "keyturn"}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": about, "spec": spec}
        self.plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(body))

    def hurry(self, *names: str) -> None:
        """Have requests tried now."""
        for name in names:
            self.namespace.ask(name, f"now-{next(self.numbers)}")

    def fires(self, *alerts: str) -> None:
        """Wait until alerts have fired; a test says which have not."""
        with contextlib.suppress(AssertionError):
            until(lambda: set(alerts) <= self.prometheus.fired(), seconds=30, every=0.5)

    def is_quiet(self, when: str) -> None:
        """Wait until no alert fires; a test says which still do."""
        with contextlib.suppress(AssertionError):
            until(lambda: not self.prometheus.firing(), seconds=40, every=0.5)
        self.wrong[when] = self.prometheus.firing()


def told(story: Story, first_address: str, second_address: str) -> Iterator[Story]:
    """Tell all of it; what is yielded is the end."""
    story.set_clock(0)
    story.fires(ABSENT)
    story.lease(holderIdentity="another", leaseDurationSeconds=3600)
    with story.operator(first_address) as first:
        story.fires(NO_LEADER)
        story.lease(holderIdentity=None)
        until(lambda: first.metric("keyturn_leader") == 1)
        with story.operator(second_address) as second:
            story.is_quiet("two replicas, one leads")
            requests(story)
            in_every_trouble(story)
            story.metrics = first.get("/metrics")
            mended(story)
            with_a_clock_that_is_behind(story)
            first.stop()
            until(lambda: second.metric("keyturn_leader") == 1)
            story.is_quiet("after a failover")
            yield story


def requests(story: Story) -> None:
    """Make seven requests: one is refused, and the Secret of another was deleted too often to be healed."""
    namespace, aws = story.namespace, story.aws
    keys = {"AWS_ACCESS_KEY_ID": USER_KEY_ID, "AWS_SECRET_ACCESS_KEY": USER_SECRET_KEY}
    namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": keys})
    namespace.token(aws.refresh_token(expires_in=FOR_EVER))
    namespace.token(aws.refresh_token(expires_in=16), name="short", labels=WATCHED)
    sign_in(namespace, aws)
    namespace.kubectl("label", "secret", "source", "keyturn.dev/source=true")
    wrong_role = {"assumeRoleWithWebIdentity": {"roleArn": "arn:aws:iam::111122223333:role/Unknown"}}
    by_keys = {"credentials": {"secretRef": {"name": "keys"}}}
    namespace.apply(
        rotating_request(aws, "doubt"),
        token_request("ends", source={"token": {"secretKeyRef": {"name": "short", "key": "license_token"}}}),
        token_request("gone"),
        token_request("late"),
        token_request("stalled", exchanges=[{"licenseManagerGetAccessToken": {}}, wrong_role]),
        token_request("throttled", source=by_keys, exchanges=[{"getSessionToken": {}}]),
    )
    for name in ("doubt", "ends", "gone", "late", "throttled"):
        namespace.is_ready(name)
    namespace.kubectl("delete", "secret", "gone")
    until(lambda: namespace.status("gone").get("revision") == 2)
    namespace.kubectl("delete", "secret", "gone")
    aws.settings(session_seconds=12)
    # Half of the time after the renewal is when KeyturnExpiring fires: this makes it three seconds of twelve.
    namespace.apply(token_request("expires", renewal={"renewBeforePercentage": 50}))
    namespace.is_ready("expires")


def in_every_trouble(story: Story) -> None:
    """License Manager is away, STS throttles, an answer of the issuer is lost."""
    story.aws.fault("GetAccessToken", times=None, drop="before")
    story.aws.fault("GetSessionToken", times=None, code="Throttling")
    story.aws.fault("oauth:token", drop="after")
    story.hurry("doubt")

    def all_fire() -> bool:
        story.hurry("expires", "throttled")
        return story.prometheus.fired() >= OF_REQUESTS

    with contextlib.suppress(AssertionError):
        until(all_fire, seconds=60, every=1)


def mended(story: Story) -> None:
    """What a person does about them; those that nobody can mend quickly are deleted."""
    namespace, aws = story.namespace, story.aws
    aws.clear_faults()
    aws.settings(session_seconds=FOR_EVER)
    namespace.kubectl("delete", "treq", "gone", "stalled")
    namespace.token(aws.refresh_token(expires_in=FOR_EVER), name="short", labels=WATCHED)
    namespace.token(aws.oauth_refresh_token(), name="source", key="refresh_token", labels=WATCHED)
    story.hurry("expires", "throttled")
    story.is_quiet("all is mended")


def with_a_clock_that_is_behind(story: Story) -> None:
    """The operator's clock is a minute behind while a renewal becomes due, and right again."""
    story.aws.settings(session_seconds=8)
    story.hurry("late")
    until(lambda: story.namespace.status("late").get("revision") == 2)
    story.set_clock(-60)
    story.fires(LATE)
    story.set_clock(0)
    story.aws.settings(session_seconds=FOR_EVER)
    story.hurry("expires")  # else the agenda sleeps by the wrong clock, half a minute at most
    story.is_quiet("the clock is right again")
