"""Makes every alert fire and resolve: failing TokenRequests, a clock that is behind, and a failover."""

import contextlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import LOOPBACK, Operator, running_operator
from tests.support.cluster.rotating_source import rotating_request, sign_in
from tests.support.cluster.sources import KEYS_SOURCE, USER_KEYS
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until
from tests.support.prometheus.rules import ALERTS
from tests.support.prometheus.server import Prometheus

ABSENT, NO_LEADER, LATE = "KeyturnOperatorAbsent", "KeyturnNoLeader", "KeyturnRenewalsLate"
# These need five minutes, a bug, or a second installation; promtool tests them.
NOT_IN_SCENARIO = {"KeyturnTokenUnsaved", "KeyturnInternalErrors", "KeyturnScopeConflict"}
REQUEST_ALERTS = ALERTS.keys() - {ABSENT, NO_LEADER, LATE} - NOT_IN_SCENARIO
SOURCE_LABEL = {"keyturn.dev/source": "true"}  # so that a new source is noticed at once
DAY_SECONDS = 86400


@dataclass(slots=True)
class Scenario:
    """The systems involved, and by phase the alerts that fired although none should."""

    prometheus: Prometheus
    plane: ControlPlane
    namespace: Namespace
    aws: Emulator
    directory: Path
    numbers: Iterator[int] = field(default_factory=itertools.count)
    unexpected: dict[str, set[str]] = field(default_factory=dict)
    metrics: str = ""

    def run(self, first_address: str, second_address: str) -> Iterator["Scenario"]:
        """Run all phases, and yield at the end, while the second operator is still running."""
        self.set_clock(0)
        self.wait_for_alerts(ABSENT)
        self.write_lease(holderIdentity="another", leaseDurationSeconds=3600)
        with self.operator(first_address) as first:
            self.wait_for_alerts(NO_LEADER)
            self.write_lease(holderIdentity=None)
            until(lambda: first.metric("keyturn_leader") == 1)
            with self.operator(second_address) as second:
                self.wait_until_quiet("two replicas, one leader")
                self.create_requests()
                self.cause_failures()
                self.metrics = first.get("/metrics")
                self.fix_failures()
                self.set_clock_back()
                first.stop()
                until(lambda: second.metric("keyturn_leader") == 1)
                self.wait_until_quiet("after a failover")
                yield self

    def create_requests(self) -> None:
        """Create seven TokenRequests: one is refused, and the Secret of one is deleted too often to be recreated."""
        namespace, aws = self.namespace, self.aws
        namespace.put_secret("keys", USER_KEYS)
        namespace.put_token(aws.refresh_token(expires_in=DAY_SECONDS))
        namespace.put_token(aws.refresh_token(expires_in=16), name="short", labels=SOURCE_LABEL)
        sign_in(namespace, aws)
        namespace.kubectl("label", "secret", "source", "keyturn.dev/source=true")
        unknown_role = {"assumeRoleWithWebIdentity": {"roleArn": "arn:aws:iam::111122223333:role/Unknown"}}
        namespace.apply(
            rotating_request(aws, "unknown-outcome"),
            token_request(
                "expiring-source", source={"token": {"secretKeyRef": {"name": "short", "key": "license_token"}}}
            ),
            token_request("deleted-secret"),
            token_request("late"),
            token_request("stalled", exchanges=[{"licenseManagerGetAccessToken": {}}, unknown_role]),
            token_request("throttled", source=KEYS_SOURCE, exchanges=[{"getSessionToken": {}}]),
        )
        for name in ("unknown-outcome", "expiring-source", "deleted-secret", "late", "throttled"):
            namespace.wait_until_ready(name)
        namespace.kubectl("delete", "secret", "deleted-secret")
        until(lambda: namespace.status("deleted-secret").get("revision") == 2)
        namespace.kubectl("delete", "secret", "deleted-secret")
        aws.settings(session_seconds=12)
        # KeyturnExpiring fires after half of the time between renewal and expiry: three seconds of twelve.
        namespace.apply(token_request("expires", renewal={"renewBeforePercentage": 50}))
        namespace.wait_until_ready("expires")

    def cause_failures(self) -> None:
        """Make License Manager unavailable, let STS throttle, and drop a response of the issuer."""
        self.aws.fault("GetAccessToken", times=None, drop="before")
        self.aws.fault("GetSessionToken", times=None, code="Throttling")
        self.aws.fault("oauth:token", drop="after")
        # Without credentials, the final attempt is made after 32 s.
        self.namespace.kubectl("delete", "secret", "unknown-outcome")

        def all_fired() -> bool:
            self.renew("expires", "throttled")
            return self.prometheus.fired() >= REQUEST_ALERTS

        with contextlib.suppress(AssertionError):
            until(all_fired, seconds=60, every=1)

    def fix_failures(self) -> None:
        """Fix what can be fixed quickly, and delete the other TokenRequests."""
        namespace, aws = self.namespace, self.aws
        aws.clear_faults()
        aws.settings(session_seconds=DAY_SECONDS)
        namespace.kubectl("delete", "treq", "deleted-secret", "stalled")
        namespace.put_token(aws.refresh_token(expires_in=DAY_SECONDS), name="short", labels=SOURCE_LABEL)
        namespace.put_token(aws.oauth_refresh_token(), name="source", key="refresh_token", labels=SOURCE_LABEL)
        self.renew("expires", "throttled")
        self.wait_until_quiet("failures fixed")

    def set_clock_back(self) -> None:
        """Set the operators' clock back by a minute until a renewal is due, then correct it."""
        self.aws.settings(session_seconds=8)
        self.renew("late")
        until(lambda: self.namespace.status("late").get("revision") == 2)
        self.set_clock(-60)
        # It may have fired before: on a slow machine, the renewals that fail start late, too.
        with contextlib.suppress(AssertionError):
            until(lambda: LATE in self.prometheus.firing(), seconds=30, every=0.5)
        self.set_clock(0)
        self.aws.settings(session_seconds=DAY_SECONDS)
        self.renew("expires")  # otherwise the work queue sleeps by the wrong clock, for up to half a minute
        until(lambda: self.namespace.status("late").get("revision", 0) > 2)
        self.wait_until_quiet("clock corrected")

    def set_clock(self, seconds_ahead: float) -> None:
        """Set the operators' clock relative to the real one."""
        (self.directory / "next").write_text(str(seconds_ahead))
        (self.directory / "next").rename(self.directory / "ahead")

    def operator(self, address: str) -> contextlib.AbstractContextManager[Operator]:
        """Run a replica with leader election and a settable clock."""
        directory = self.directory / address.rpartition(":")[2]
        directory.mkdir()
        program = ("-m", "tests.support.cluster.settable_clock", str(self.directory / "ahead"))
        flags = (f"--http-bind-address={address}",)
        return running_operator(self.plane, self.aws, directory, flags=flags, settings=LOOPBACK, program=program)

    def write_lease(self, **spec: object) -> None:
        metadata = {"name": "keyturn", "namespace": "keyturn"}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        self.plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(body))

    def renew(self, *names: str) -> None:
        for name in names:
            self.namespace.request_renewal(name, f"now-{next(self.numbers)}")

    def wait_for_alerts(self, *alerts: str) -> None:
        """Wait until alerts have fired. The tests report those that have not."""
        with contextlib.suppress(AssertionError):
            until(lambda: set(alerts) <= self.prometheus.fired(), seconds=30, every=0.5)

    def wait_until_quiet(self, phase: str) -> None:
        """Wait until no alert fires. The tests report those that still do."""
        with contextlib.suppress(AssertionError):
            until(lambda: not self.prometheus.firing(), seconds=40, every=0.5)
        self.unexpected[phase] = self.prometheus.firing()
