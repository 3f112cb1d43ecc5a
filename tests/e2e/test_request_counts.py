"""What a first issuance, a renewal and a restart cost, in counts and memory: make bench-gate. No time is tested."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import pytest

from tests.support.cluster.api_proxy import ApiProxy
from tests.support.cluster.fixtures import delete_requests
from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import Operator, running_operator
from tests.support.cluster.sources import USER_KEYS
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until
from tools.bench.environment import OPERATION, is_ready, token_request
from tools.bench.usage import connections, memory_mib

NUMBER = 100  # TokenRequests, in two namespaces
SHORT, LONG = 30, 12 * 3600  # lifetimes in seconds: with the short one, each is renewed soon


class Limit(NamedTuple):
    """The most requests of a kind."""

    first: float
    renewal: float
    restart: float


# The most requests of each kind; a request of any other kind fails, too. Watches end after a minute, and each begins
# with a list: while the operator runs, their number depends on the time.
ANY = math.inf
LIMITS = {
    # first issuance and renewal: for each; restart: in total
    "source read":   Limit(first=1,   renewal=1,   restart=0),
    "target read":   Limit(first=0,   renewal=0,   restart=0),
    "dry run":       Limit(first=0.5, renewal=0,   restart=0),  # until one has succeeded in the namespace
    "Secret apply":  Limit(first=1,   renewal=1,   restart=0),
    "status write":  Limit(first=1,   renewal=1,   restart=0),
    "Event":         Limit(first=1,   renewal=0,   restart=0),
    "list":          Limit(first=ANY, renewal=ANY, restart=4),
    "watch":         Limit(first=ANY, renewal=ANY, restart=3),
    "discovery":     Limit(first=ANY, renewal=ANY, restart=10),
    "self review":   Limit(first=ANY, renewal=ANY, restart=1),
    "AWS call":      Limit(first=1,   renewal=1,   restart=0),
}  # fmt: skip
# A request is repeated if a busy API server does not respond in time.
REPEATED = 1.05
MAX_AWS_CONNECTIONS = 16
MAX_MIB = 140  # 100 MiB are usual

KINDS = (
    ("source read", r"GET .*/secrets/keys"),
    ("target read", r"GET .*/secrets/request-\d+"),
    ("dry run", r"POST .*/secrets\?.*dryRun=All"),
    ("Secret apply", r"PATCH .*/secrets/request-\d+\?.*"),
    ("status write", r"PATCH .*/tokenrequests/request-\d+/status"),
    ("Event", r"POST .*/events"),
    ("watch", r"GET .*[?&]watch=true.*"),
    ("list", r"GET .*/(secrets|tokenrequests)(\?.*)?"),
    ("discovery", r"GET /(api|apis)(/v1|/[^/?]+/v\w+)?"),
    ("self review", r"POST .*/selfsubjectreviews"),
)
# Leader election, the scope and the issuance key: their number depends on the time.
IGNORED = r".*/leases\b.*|.*/namespaces/keyturn/secrets\b.*"


@dataclass(frozen=True, slots=True)
class Measured:
    """The requests by kind, and what the operator used before the restart.

    `issued` are those of all first issuances and of so many renewals.
    """

    issued: Counter[str]
    renewals: int
    restart: Counter[str]
    aws_connections: int
    peak_mib: float


class Meter:
    """Counts requests by kind."""

    def __init__(self, proxy: ApiProxy, aws: Emulator) -> None:
        self._proxy = proxy
        self._aws = aws
        self._seen = self._called = 0

    def read(self) -> Counter[str]:
        """Return the requests since the last reading."""
        requests, calls = self._proxy.requests[self._seen :], self._aws.calls(OPERATION)
        counts = Counter(filter(None, map(_kind, requests))) + Counter({"AWS call": calls - self._called})
        self._seen, self._called = self._seen + len(requests), calls
        return counts


def _kind(request: str) -> str:
    """Return the kind of a request, "" if it is ignored, and the request itself, without names, if it is unexpected."""
    kinds = (kind for kind, pattern in KINDS if re.fullmatch(pattern, request))
    unexpected = re.sub(r"\b(test|request)-\d+", r"\1-*", request)
    return next(kinds, "" if re.fullmatch(IGNORED, request) else unexpected)


@pytest.fixture(scope="module")
def measured(
    installed: ControlPlane, shared_emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Measured]:
    delete_requests(installed)
    shared_emulator.reset()
    with ApiProxy.running(installed) as proxy:
        with running_operator(proxy, shared_emulator, tmp_path_factory.mktemp("operator")) as operator:
            yield _measure(installed, shared_emulator, proxy, operator)
        delete_requests(installed)


def _measure(plane: ControlPlane, aws: Emulator, proxy: ApiProxy, operator: Operator) -> Measured:
    namespaces, meter = [Namespace.create(plane), Namespace.create(plane)], Meter(proxy, aws)
    until(lambda: operator.metric("keyturn_leader") == 1)
    meter.read()
    aws.settings(session_seconds=SHORT)
    for half, namespace in enumerate(namespaces):
        namespace.put_secret("keys", USER_KEYS)
        namespace.apply(*map(token_request, range(half, NUMBER, 2)))
    _wait_for_lifetime(namespaces, 0)
    # An Event follows its status.
    until(lambda: proxy.count("^POST .*/events$") >= NUMBER)
    # On a slow machine, some have been renewed already.
    aws.settings(session_seconds=LONG)
    renewals = _wait_for_lifetime(namespaces, LONG / 2) - NUMBER
    issued = meter.read()
    aws_connections = connections(int(aws.url.rpartition(":")[2]))
    peak_mib = memory_mib(operator.process.pid, peak=True)
    operator.stop()
    meter.read()
    operator.start()
    until(lambda: operator.metric('keyturn_workqueue_requests{state="delayed"}') == NUMBER)
    return Measured(issued, renewals, meter.read(), aws_connections, peak_mib)


def _wait_for_lifetime(namespaces: Sequence[Namespace], seconds: float) -> int:
    """Wait until each TokenRequest is Ready with at least this lifetime; returns the sum of all revisions."""

    def total() -> int:
        lists = [json.loads(namespace.kubectl("get", "treq", "-o", "json"))["items"] for namespace in namespaces]
        statuses = [item["status"] for items in lists for item in items if is_ready(item)]
        is_done = len(statuses) == NUMBER and all(_lifetime(status) >= seconds for status in statuses)
        return sum(status["revision"] for status in statuses) if is_done else 0

    return until(total, seconds=120, every=0.5)


def _lifetime(status: Mapping[str, str]) -> float:
    lifetime = datetime.fromisoformat(status["expirationTime"]) - datetime.fromisoformat(status["issueTime"])
    return lifetime.total_seconds()


def _excess(counts: Mapping[str, int], limits: Mapping[str, float]) -> dict[str, str]:
    return {
        kind: f"{count}, at most {limits.get(kind, 0):g}"
        for kind, count in counts.items()
        if count > limits.get(kind, 0)
    }


def test_issuance_and_renewal_send_no_more_requests(measured: Measured) -> None:
    limits = {
        kind: (NUMBER * limit.first + measured.renewals * limit.renewal) * REPEATED for kind, limit in LIMITS.items()
    }

    assert _excess(measured.issued, limits) == {}
    assert measured.issued["AWS call"] == NUMBER + measured.renewals


def test_restart_sends_no_more_requests(measured: Measured) -> None:
    assert _excess(measured.restart, {kind: limit.restart for kind, limit in LIMITS.items()}) == {}


def test_operator_needs_no_more_memory_and_connections(measured: Measured) -> None:
    assert measured.peak_mib < MAX_MIB
    assert measured.aws_connections <= MAX_AWS_CONNECTIONS
