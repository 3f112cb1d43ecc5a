"""Two installations whose scopes overlap: only one of them renews."""

import functools
import itertools
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.cluster.chart import CHART, helm
from tests.support.cluster.fixtures import delete_requests
from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import Operator
from tests.support.cluster.rotating_source import prevent_save
from tests.support.cluster.scope import TAKEN_OVER_SECONDS, installed_release, scope_lease
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import http_get, until
from tools.bench.client import Client

pytestmark = pytest.mark.cluster
Install = Callable[..., Operator]
WIDE, SCOPED, OVERLAPPING = (), ("web",), ("billing", "web")
_numbers = itertools.count(1)


@pytest.fixture
def install(installed: ControlPlane, aws: Emulator, namespace: Namespace, tmp_path: Path) -> Iterator[Install]:
    """Start an installation: cluster-wide, or for namespaces of which "web" stands for the test's own."""
    delete_requests(installed)
    with ExitStack() as stack:
        billing = Namespace.create(installed)

        def start(names: tuple[str, ...]) -> Operator:
            release = f"keyturn-{next(_numbers)}"
            namespaces = tuple({"web": namespace.name, "billing": billing.name}[name] for name in names)
            installation = installed_release(installed, aws, release, tmp_path / release, namespaces)
            operator = stack.enter_context(stack.enter_context(installation).running())
            until(lambda: operator.metric("keyturn_leader") == 1)
            return operator

        yield start


def renewals(operator: Operator) -> float:
    """Return how many renewals an operator attempted."""
    lines = operator.get("/metrics").splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("keyturn_renewals_total{"))


def has_conflict(operator: Operator) -> bool:
    return bool(operator.metric("keyturn_scope_conflict"))


def readiness(operator: Operator) -> str:
    return http_get(f"http://{operator.address}/readyz")[1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(WIDE, WIDE, id="cluster-wide twice"),
        pytest.param(SCOPED, WIDE, id="namespaced, then cluster-wide"),
        pytest.param(SCOPED, OVERLAPPING, id="two namespaced with one namespace in common"),
    ],
)
def test_only_the_first_of_two_installations_renews(
    install: Install, namespace: Namespace, aws: Emulator, first: tuple[str, ...], second: tuple[str, ...]
) -> None:
    one = install(first)
    namespace.issue(aws)
    two = install(second)
    until(functools.partial(has_conflict, two))
    namespace.issue(aws, "later")
    for revision in (2, 3, 4):
        namespace.renew(revision)

    assert (renewals(one), renewals(two)) == (5, 0)
    assert aws.calls("GetAccessToken") == 5
    assert (has_conflict(one), readiness(one)) == (False, "ok\n")
    assert "ScopeConflict" in readiness(two)
    assert "ScopeConflict" in two.log()
    assert until(lambda: "ScopeConflict" in namespace.events("later"))
    assert namespace.condition("later", "Ready")[:2] == ("True", "Issued")
    assert 'keyturn_request_condition{condition="Ready",name="acme"' not in two.get("/metrics")


def test_namespaced_installation_takes_over_from_a_cluster_wide_one(
    install: Install, namespace: Namespace, aws: Emulator
) -> None:
    wide = install(WIDE)
    namespace.issue(aws)
    scoped = install(SCOPED)
    until(functools.partial(has_conflict, wide))
    namespace.renew(2, seconds=TAKEN_OVER_SECONDS)
    namespace.issue(aws, "later")

    assert (renewals(wide), renewals(scoped)) == (1, 2)
    assert aws.calls("GetAccessToken") == 3


@pytest.mark.parametrize(
    ("first", "second", "is_killed"),
    [
        pytest.param(WIDE, WIDE, True, id="cluster-wide twice, killed"),
        pytest.param(SCOPED, WIDE, False, id="namespaced, uninstalled; cluster-wide takes over"),
        pytest.param(SCOPED, OVERLAPPING, True, id="two namespaced, killed"),
    ],
)
def test_remaining_installation_takes_over(
    install: Install,
    namespace: Namespace,
    aws: Emulator,
    first: tuple[str, ...],
    second: tuple[str, ...],
    *,
    is_killed: bool,
) -> None:
    one = install(first)
    namespace.issue(aws)
    two = install(second)
    until(lambda: "ScopeConflict" in readiness(two))
    if is_killed:
        one.kill()
    else:
        one.stop()
    namespace.renew(2, seconds=TAKEN_OVER_SECONDS)

    assert aws.calls("GetAccessToken") == 2
    assert namespace.name not in two.get("/readyz")
    assert "all namespaces" not in two.get("/readyz")


@pytest.mark.long
def test_installation_that_saves_a_token_keeps_its_scope(install: Install, namespace: Namespace, aws: Emulator) -> None:
    one = install(WIDE)
    seed = prevent_save(namespace, aws)
    namespace.wait_for_condition("acme", "Stalled", "TokenUnsaved")
    two = install(WIDE)
    until(functools.partial(has_conflict, two))
    one.process.send_signal(signal.SIGTERM)
    time.sleep(TAKEN_OVER_SECONDS)
    assert has_conflict(two)

    namespace.kubectl("delete", "secret", "source-keyturn")
    assert one.process.wait(timeout=20) == 0
    namespace.wait_for_revision(2, seconds=TAKEN_OVER_SECONDS)
    family = aws.family(seed)
    assert (family.consumed, family.reuses, family.revoked) == ([0, 1, 2], 0, False)


def test_forged_lease_of_a_tenant_stops_nobody(install: Install, namespace: Namespace, aws: Emulator) -> None:
    user = f"system:serviceaccount:{namespace.name}:default"
    namespace.apply(scope_lease("keyturn-cluster-scope", "cluster", holder="forged", user=user))
    wide = install(WIDE)
    namespace.issue(aws)

    assert "all namespaces" not in wide.get("/readyz")


@pytest.fixture
async def large_leases(installed: ControlPlane) -> None:
    """A Lease in each of two other namespaces: together, they are larger than a response may be."""
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "<" * 1_000_000, "uid": "none"}
    lease = scope_lease("keyturn-scope", "namespaced", holder="forged")
    lease["metadata"]["ownerReferences"] = [owner]
    async with Client.connect(installed.kubeconfig) as client:
        for _ in range(2):
            namespace = Namespace.create(installed).name
            await client.request("POST", f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", lease)


@pytest.mark.usefixtures("large_leases")
def test_large_leases_of_tenants_stop_nobody(install: Install, namespace: Namespace, aws: Emulator) -> None:
    wide = install(WIDE)
    namespace.issue(aws)
    namespace.renew(2)

    assert "all namespaces" not in wide.get("/readyz")


def test_notes_warn_about_an_installation_that_overlaps(installed: ControlPlane, namespace: Namespace) -> None:
    namespace.apply(scope_lease("keyturn-scope", "namespaced", holder="other/keyturn"))

    def notes(**values: object) -> str:
        flags = ("--dry-run=server", f"--namespace={namespace.name}")
        values["crds"] = {"enabled": False}
        return helm("install", "keyturn-new", str(CHART), *flags, values=values, kubeconfig=installed.kubeconfig)

    assert f"WARNING: the installation other/keyturn renews in the namespace {namespace.name}" in notes()
    assert "WARNING" not in notes(watchNamespaces=[namespace.name])


def test_installation_without_the_right_to_its_lease_is_not_ready(
    install: Install, namespace: Namespace, aws: Emulator
) -> None:
    operator = install(SCOPED)
    namespace.issue(aws)
    namespace.kubectl("delete", "rolebindings", "--all")

    until(lambda: 'leases.coordination.k8s.io "keyturn-scope" is forbidden' in readiness(operator))
