"""All metrics of the operator and of standalone mode.

The sidecar's endpoint formats its own two metrics, keyturn_sidecar_requests_total and
keyturn_sidecar_credentials_expiration_timestamp_seconds, because prometheus_client takes as much memory as the sidecar.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from keyturn import __version__
from keyturn.api.status import Status
from keyturn.api.token_request import InvalidRequest, Request
from keyturn.core.state import ReconcileState

_REQUEST_LABELS = ("namespace", "name")
# The components that count internal errors: reconciliations, and the streams of external input.
_COMPONENTS = ("reconcile", "lease", "probes", "scope", "request_watch", "secret_watch", "source_watch")
_DURATION_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LATENESS_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)

# Field of Series: metric name and help text.
_TIMES: Mapping[str, tuple[str, str]] = {
    "issued": (
        "keyturn_credentials_issued_timestamp_seconds", "Unix time at which the current credentials were issued.",
    ),
    "renews": ("keyturn_credentials_renewal_timestamp_seconds", "Unix time of the next scheduled renewal."),
    "expires": (
        "keyturn_credentials_expiration_timestamp_seconds", "Unix time at which the current credentials expire.",
    ),
    "source_expires": (
        "keyturn_source_expiration_timestamp_seconds", "Unix time at which the source credential expires, if known.",
    ),
    "source_warns": (
        "keyturn_source_expiration_warning_timestamp_seconds",
        "Unix time from which a new source credential is needed.",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Series:
    """The exported state of one TokenRequest.

    `conditions` are type, status and reason. `source_warns` is the time from which KeyturnSourceExpiring fires.
    """

    namespace: str
    name: str
    conditions: tuple[tuple[str, str, str], ...]
    failed_attempts: int
    suspended: bool = False
    issued: datetime | None = None
    renews: datetime | None = None
    expires: datetime | None = None
    source_expires: datetime | None = None
    source_warns: datetime | None = None


def request_series(request: Request | InvalidRequest, status: Status, state: ReconcileState) -> Series:
    """Return the metrics of a request."""
    conditions = tuple((condition.type, condition.status, condition.reason) for condition in status.conditions)
    if isinstance(request, InvalidRequest):
        return Series(request.namespace, request.name, conditions, status.failed_attempts)
    issuance = state.issuance
    return Series(
        namespace=request.namespace,
        name=request.name,
        issued=issuance.issued if issuance else None,
        renews=issuance.renew if issuance and not issuance.once else None,
        expires=issuance.expires if issuance else None,
        source_expires=issuance.source_expires if issuance else None,
        source_warns=issuance.source_warns if issuance else None,
        conditions=conditions,
        failed_attempts=status.failed_attempts,
        suspended=bool(request.spec.suspend),
    )


class Metrics:
    """The metrics of one process, in their own registry."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._collector: Collector | None = None
        self.renewals = self._counter(
            "keyturn_renewals",
            "Successful renewals, and failed attempts with or without an exchange.",
            ("result", "reason"),
        )
        self.exchanges = self._counter(
            "keyturn_exchanges", "Exchanges, by error code of AWS or the issuer.", ("exchange", "code")
        )
        self.throttled = self._counter(
            "keyturn_throttled_calls", "Calls that a service throttled; oauth stands for all issuers.", ("service",)
        )
        self.internal_errors = self._counter(
            "keyturn_internal_errors", "Bugs and unexpected input, by component.", ("component",), *_COMPONENTS
        )
        self.rotations = self._counter(
            "keyturn_token_rotations", "Uses of refresh tokens, by result.", ("result",), "unsaved"
        )
        self.lateness = self._histogram(
            "keyturn_renewal_lateness_seconds",
            "Time from when a renewal was due until its start.",
            buckets=_LATENESS_BUCKETS,
        )
        self.duration = self._histogram(
            "keyturn_renewal_duration_seconds", "Duration of a renewal, from the decision to the written Secret."
        )
        self.exchange_duration = self._histogram(
            "keyturn_exchange_duration_seconds", "Duration of an exchange.", ("exchange",)
        )
        self.clock_skew = self._gauge(
            "keyturn_clock_skew_seconds",
            "Service's clock minus the operator's clock, measured from the response's Date header.",
            ("service",),
        )
        # Memory, CPU and open files, under the standard process_ names.
        ProcessCollector(registry=self.registry)
        Info("keyturn_build", "The running version.", registry=self.registry).info({"version": __version__})

    @cached_property
    def leader(self) -> Gauge:
        """Whether this process is the leader.

        The series starts with the first use: a process without leader election must not look like one without a leader.
        """
        return self._gauge("keyturn_leader", "1 if this process is the leader.", ())

    @cached_property
    def unsaved_tokens(self) -> Gauge:
        """The number of saves that are late. The series starts with the first save."""
        return self._gauge(
            "keyturn_unsaved_tokens", "Number of new refresh tokens that could not be saved for five minutes.", ()
        )

    @cached_property
    def scope_conflict(self) -> Gauge:
        """The number of namespaces in which this installation yields to another one. Only the operator has a scope."""
        return self._gauge(
            "keyturn_scope_conflict",
            "Number of namespaces in which another installation renews; 1 if it renews in all.",
            (),
        )

    def export(self, series: Callable[[], Iterable[Series]], work_queue: Callable[[], Mapping[str, int]]) -> None:
        """Export what `series` and `work_queue` return at each scrape, so that deleted objects have no series.

        This replaces what was exported before.
        """
        if self._collector:
            self.registry.unregister(self._collector)
        self._collector = _RequestCollector(series, work_queue)
        self.registry.register(self._collector)

    def _counter(self, name: str, text: str, labels: tuple[str, ...], *values: str) -> Counter:
        """Create a counter, and its series with these values of the label.

        Prometheus sees an increase only if the series exists before it.
        """
        counter = Counter(name, text, labels, registry=self.registry)
        for value in values:
            counter.labels(value)
        return counter

    def _gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...] = (), buckets: tuple[float, ...] = _DURATION_BUCKETS
    ) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=buckets)


class _RequestCollector(Collector):
    """The series of each TokenRequest, collected at each scrape so that a deleted object leaves no series behind."""

    def __init__(self, series: Callable[[], Iterable[Series]], work_queue: Callable[[], Mapping[str, int]]) -> None:
        self._series = series
        self._work_queue = work_queue

    def collect(self) -> Iterator[Metric]:
        times = {field: _family(name, text) for field, (name, text) in _TIMES.items()}
        condition = _family(
            "keyturn_request_condition",
            "1 for the current status and reason of the condition.",
            *("condition", "status", "reason"),
        )
        info = _family(
            "keyturn_request_info", "Reasons of the conditions Ready and Renewed.", "ready_reason", "renewed_reason"
        )
        failed_attempts = _family("keyturn_request_failed_attempts", "Number of consecutive failed attempts.")
        suspended = _family("keyturn_request_suspended", "1 if spec.suspend is true.")
        for request in self._series():
            labels = (request.namespace, request.name)
            for field, family in times.items():
                time: datetime | None = getattr(request, field)
                if time:
                    family.add_metric(labels, time.timestamp())
            reasons = {kind: reason for kind, _, reason in request.conditions}
            info.add_metric((*labels, reasons.get("Ready", ""), reasons.get("Renewed", "")), 1)
            for labels_of_condition in request.conditions:
                condition.add_metric((*labels, *labels_of_condition), 1)
            failed_attempts.add_metric(labels, request.failed_attempts)
            suspended.add_metric(labels, request.suspended)
        states = GaugeMetricFamily(
            "keyturn_workqueue_requests", "TokenRequests in the work queue, by state.", labels=("state",)
        )
        for state, number in self._work_queue().items():
            states.add_metric((state,), number)
        yield from (*times.values(), info, condition, failed_attempts, suspended, states)


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=(*_REQUEST_LABELS, *labels))
