"""All metrics of the operator and of standalone mode.

The sidecar's endpoint formats its own two metrics, keyturn_sidecar_requests_total and
keyturn_sidecar_credentials_expiration_timestamp_seconds, because prometheus_client takes as much memory as the sidecar.
"""

import asyncio
import itertools
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from keyturn import __version__
from keyturn.api.status import Status
from keyturn.api.token_request import InvalidRequest, Request
from keyturn.core.state import ReconcileState

# The components that count internal errors: reconciliations, and the streams of external input.
_COMPONENTS = ("reconcile", "lease", "probes", "scope", "request_watch", "secret_watch", "source_watch")
_DURATION_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LATENESS_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)

# The metrics whose values are times, by the field of Series. A time that is None is not exported.
_TIMES: Mapping[str, str] = {
    "issued": "keyturn_credentials_issued_timestamp_seconds",
    "renews": "keyturn_credentials_renewal_timestamp_seconds",
    "expires": "keyturn_credentials_expiration_timestamp_seconds",
    "source_expires": "keyturn_source_expiration_timestamp_seconds",
    "source_warns": "keyturn_source_expiration_warning_timestamp_seconds",
}
# The metrics of each TokenRequest, and of the work queue: name and help text. All are gauges.
GAUGES: Mapping[str, str] = {
    "keyturn_credentials_issued_timestamp_seconds": "Unix time at which the current credentials were issued.",
    "keyturn_credentials_renewal_timestamp_seconds": "Unix time of the next scheduled renewal.",
    "keyturn_credentials_expiration_timestamp_seconds": "Unix time at which the current credentials expire.",
    "keyturn_source_expiration_timestamp_seconds": "Unix time at which the source credential expires, if known.",
    "keyturn_source_expiration_warning_timestamp_seconds": "Unix time from which a new source credential is needed.",
    "keyturn_request_info": "Reasons of the conditions Ready and Renewed.",
    "keyturn_request_condition": "1 for the current status and reason of the condition.",
    "keyturn_request_failed_attempts": "Number of consecutive failed attempts.",
    "keyturn_request_suspended": "1 if spec.suspend is true.",
    "keyturn_workqueue_requests": "TokenRequests in the work queue, by state.",
}
_PART_BYTES = 65536
# How many TokenRequests are formatted before other tasks run. It takes about a millisecond.
_BATCH = 50


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


class Exposition:
    """All metrics in the Prometheus text format, as a LargeBody of the HTTP server, for any number of responses.

    The format requires all samples of a metric in one group, but each TokenRequest has a sample in each group. The
    groups are compressed: with 100,000 TokenRequests, the text has 79 MiB.
    """

    def __init__(self, fixed: bytes) -> None:
        self._fixed = fixed
        self._groups: dict[str, _Group] = {}

    def add(self, samples: Iterable[tuple[str, str]]) -> None:
        """Add lines, each with the name of its metric."""
        lines: defaultdict[str, list[str]] = defaultdict(list)
        for name, line in samples:
            lines[name].append(line)
        for name, group in lines.items():
            if name not in self._groups:
                self._groups[name] = _Group(f"# HELP {name} {GAUGES[name]}\n# TYPE {name} gauge\n")
            self._groups[name].add("".join(group))

    def finish(self) -> None:
        """Compress the rest. Nothing can be added afterwards."""
        for group in self._groups.values():
            group.finish()

    @property
    def size(self) -> int:
        """The number of bytes of all parts."""
        return len(self._fixed) + sum(group.size for group in self._groups.values())

    @property
    def kept_bytes(self) -> int:
        """The number of bytes that the parts occupy in memory."""
        return len(self._fixed) + sum(group.kept_bytes for group in self._groups.values())

    def parts(self) -> Iterator[bytes]:
        """Return the text in parts of at most 64 KiB, except for the first. They end early after `discard`."""
        yield self._fixed
        for name in GAUGES:
            if group := self._groups.get(name):
                yield from group.parts()

    def discard(self) -> None:
        """Release the memory."""
        self._groups.clear()


class _Group:
    """The lines of one metric, compressed."""

    def __init__(self, head: str) -> None:
        self.size = 0
        # The lines are so similar that a window of 4 KiB suffices; the default needs eight times the memory, 256 KiB.
        self._compressor: Any = zlib.compressobj(level=1, wbits=12, memLevel=5)
        self._compressed: list[bytes] = []
        self.add(head)

    @property
    def kept_bytes(self) -> int:
        return sum(map(len, self._compressed))

    def add(self, text: str) -> None:
        data = text.encode()
        self.size += len(data)
        # Most results are empty, because zlib collects its output.
        if compressed := self._compressor.compress(data):
            self._compressed.append(compressed)

    def finish(self) -> None:
        self._compressed.append(self._compressor.flush())
        self._compressor = None

    def parts(self) -> Iterator[bytes]:
        decompressor = zlib.decompressobj(wbits=12)
        for data in self._compressed:
            yield decompressor.decompress(data, _PART_BYTES)
            while decompressor.unconsumed_tail:
                yield decompressor.decompress(decompressor.unconsumed_tail, _PART_BYTES)


class Metrics:
    """The metrics of one process, in their own registry."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._series: Callable[[], Iterable[Series]] = tuple
        self._work_queue: Callable[[], Mapping[str, int]] = dict
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
        self._series = series
        self._work_queue = work_queue

    async def exposition(self) -> Exposition:
        """Return all metrics. With 100,000 TokenRequests, it takes a second, and other tasks run meanwhile.

        A thread would delay these tasks more: each time that one wants to run, it would wait up to 5 ms until the
        thread releases the interpreter.
        """
        exposition, series = Exposition(generate_latest(self.registry)), iter(self._series())
        while batch := tuple(itertools.islice(series, _BATCH)):
            exposition.add(sample for request in batch for sample in _samples(request))
            await asyncio.sleep(0)
        name = "keyturn_workqueue_requests"
        exposition.add((name, f'{name}{{state="{it}"}} {number}\n') for it, number in self._work_queue().items())
        exposition.finish()
        return exposition

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


def _samples(request: Series) -> Iterator[tuple[str, str]]:
    """Return the name of the metric and the line for each sample of a TokenRequest. Labels are in alphabetical order.

    prometheus_client would need eight times the CPU time, and memory for all samples at once.
    """
    labels = f'name="{_escape(request.name)}",namespace="{_escape(request.namespace)}"'
    for field, name in _TIMES.items():
        time: datetime | None = getattr(request, field)
        if time:
            yield name, f"{name}{{{labels}}} {time.timestamp()}\n"
    reasons = {kind: _escape(reason) for kind, _, reason in request.conditions}
    name, ready, renewed = "keyturn_request_info", reasons.get("Ready", ""), reasons.get("Renewed", "")
    yield name, f'{name}{{{labels},ready_reason="{ready}",renewed_reason="{renewed}"}} 1\n'
    name = "keyturn_request_condition"
    for kind, status, _ in request.conditions:
        condition, reason = _escape(kind), reasons[kind]
        yield name, f'{name}{{condition="{condition}",{labels},reason="{reason}",status="{_escape(status)}"}} 1\n'
    name = "keyturn_request_failed_attempts"
    yield name, f"{name}{{{labels}}} {request.failed_attempts}\n"
    name = "keyturn_request_suspended"
    yield name, f"{name}{{{labels}}} {request.suspended:d}\n"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
