"""Every metric name, in one place.

But for two that sidecar/endpoint.py tells itself, since prometheus_client weighs as much as all of it:
keyturn_sidecar_requests_total{code}, keyturn_sidecar_credentials_expiration_timestamp_seconds.
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

_OBJECT = ("namespace", "name")
_FAST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LATE = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)


@dataclass(frozen=True, slots=True)
class Series:
    """What is exported of one TokenRequest."""

    namespace: str
    name: str
    conditions: tuple[tuple[str, str], ...]
    failed_attempts: int
    suspended: bool = False
    issued: datetime | None = None
    renews: datetime | None = None
    expires: datetime | None = None
    source_expires: datetime | None = None
    source_warns: datetime | None = None


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        counter = self._counter
        self.renewals = counter("keyturn_renewals", "Looks that ended in an exchange.", ("result", "reason"))
        self.exchanges = counter("keyturn_exchanges", "Exchanges by AWS's code.", ("exchange", "code"))
        self.throttled = counter(
            "keyturn_throttled_calls", "Calls that a service throttled; oauth is any issuer.", ("service",)
        )
        self.rotations = counter("keyturn_token_rotations", "Uses of tokens that may be replaced.", ("result",))
        self.lateness = self._histogram("keyturn_renewal_lateness_seconds", "How late a due renewal began.", (), _LATE)
        self.duration = self._histogram(
            "keyturn_renewal_duration_seconds", "From the decision to the written Secret.", (), _FAST
        )
        self.exchange_duration = self._histogram(
            "keyturn_exchange_duration_seconds", "Length of an exchange.", ("exchange",), _FAST
        )
        self.clock_offset = self._gauge(
            "keyturn_clock_skew_seconds", "The service's clock minus ours, by its Date header.", ("service",)
        )
        # Memory, CPU and open files, under the names that every Prometheus client gives them.
        ProcessCollector(registry=self.registry)
        Info("keyturn_build", "The running version.", registry=self.registry).info({"version": __version__})

    @cached_property
    def leader(self) -> Gauge:
        """Whether this process is the one that renews.

        Its series begins with its first use: a process that stands for no election must not look like a cluster
        without a leader.
        """
        return self._gauge("keyturn_leader", "1 where this process is the one that renews.", ())

    def export(self, series: Callable[[], Iterable[Series]], work_queue: Callable[[], Mapping[str, int]]) -> None:
        """Export what `series` and `agenda` give at the time of a scrape, and nothing else of them."""
        self.registry.register(_Objects(series, work_queue))

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=buckets)


class _Objects(Collector):
    """The series per TokenRequest, read from what is alive now: a deleted object leaves no series behind."""

    def __init__(self, series: Callable[[], Iterable[Series]], work_queue: Callable[[], Mapping[str, int]]) -> None:
        self._series = series
        self._work_queue = work_queue

    def collect(self) -> Iterator[Metric]:
        times = {
            "issued": _family("keyturn_credentials_issued_timestamp_seconds", "When they were issued."),
            "renews": _family("keyturn_credentials_renewal_timestamp_seconds", "When they are renewed."),
            "expires": _family("keyturn_credentials_expiration_timestamp_seconds", "When they expire."),
            "source_expires": _family("keyturn_source_expiration_timestamp_seconds", "When the source ends."),
            "source_warns": _family("keyturn_source_expiration_warning_timestamp_seconds", "When a new source is due."),
        }
        condition = _family("keyturn_request_condition", "1 for the present status.", "condition", "status")
        failed = _family("keyturn_request_failed_attempts", "Failures in a row.")
        suspended = _family("keyturn_request_suspended", "1 where spec.suspend is set.")
        for one in self._series():
            place = (one.namespace, one.name)
            for name, family in times.items():
                moment: datetime | None = getattr(one, name)
                if moment:
                    family.add_metric(place, moment.timestamp())
            for kind, status in one.conditions:
                condition.add_metric((*place, kind, status), 1)
            failed.add_metric(place, one.failed_attempts)
            suspended.add_metric(place, one.suspended)
        yield from (*times.values(), condition, failed, suspended, self._states())

    def _states(self) -> Metric:
        states = GaugeMetricFamily("keyturn_workqueue_requests", "Requests on the agenda.", labels=("state",))
        for state, number in self._work_queue().items():
            states.add_metric((state,), number)
        return states


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=(*_OBJECT, *labels))
