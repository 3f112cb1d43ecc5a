"""The rights that the chart gives are those that the operator uses: none unused, none missing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_flows_credentials import APP, trust_the_cluster
from tests.e2e.test_rotation import refresh, rotating_request, sign_in
from tests.support.cluster.audit import Audit, Right, audited_plane, granted, used
from tests.support.cluster.chart import Values, chart_objects
from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import LOOPBACK, running_operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until

pytestmark = pytest.mark.cluster
TOKENS: dict[str, Any] = {"rbac": {"serviceAccountTokens": True}}
Flow = Callable[[Namespace, Emulator], None]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ControlPlane, Audit]]:
    """A cluster of their own for these tests: it logs what the operator asks, and gives it no right yet."""
    with audited_plane(tmp_path_factory.mktemp("audited"), "system:serviceaccount:keyturn:keyturn") as both:
        plane, _ = both
        plane.kubectl("create", "namespace", "keyturn")
        plane.kubectl("apply", "-f", "-", stdin=chart_objects(only=["crds", "serviceaccount"]))
        plane.kubectl("wait", "--for=condition=Established", "crd/tokenrequests.keyturn.dev", "--timeout=30s")
        yield both


@pytest.mark.parametrize(
    ("values", "scoped", "flags"),
    [
        pytest.param({}, False, [], id="cluster-wide"),
        pytest.param({}, True, [], id="one namespace"),
        pytest.param(
            {"secrets": {"watch": False}}, False, ["--no-watch-secrets"], id="without a watch of Secrets"
        ),
        pytest.param({"secrets": {"watch": False}}, True, ["--no-watch-secrets"], id="both"),
    ],
)
def test_rights_granted_are_rights_used(
    audited: tuple[ControlPlane, Audit],
    aws: Emulator,
    values: Values,
    *,
    scoped: bool,
    flags: list[str],
    tmp_path: Path,
) -> None:
    plane, audit = audited
    namespace, since = Namespace.created(plane), audit.size
    where = {"scopedNamespaces": [namespace.name]} if scoped else {}
    roles = chart_objects({**TOKENS, **values, **where}, only=["rbac"])
    plane.kubectl("apply", "-f", "-", stdin=roles)
    served = [f"--namespace={name}" for names in where.values() for name in names]
    with running_operator(plane, aws, tmp_path, settings=LOOPBACK, flags=(*flags, *served)) as operator:
        for flow in FLOWS:
            flow(namespace, aws)
        assert "a bug" not in operator.log()
    plane.kubectl("delete", "-f", "-", stdin=roles)
    plane.kubectl("delete", "lease", "keyturn", "--namespace=keyturn")

    events = list(audit.events(since))
    assert [
        it["requestURI"] for it in events if it["annotations"]["authorization.k8s.io/decision"] != "allow"
    ] == []
    assert {_where(right, scoped=scoped) for right in used(iter(events))} == granted(roles)


def _where(right: Right, *, scoped: bool) -> Right:
    """A right of a ClusterRole has no namespace, whichever was asked."""
    return right if scoped or right.namespace == "keyturn" else right._replace(namespace="")


def issue_and_renew(namespace: Namespace, aws: Emulator) -> None:
    namespace.issued(aws)
    namespace.ask("acme", "1")
    until(lambda: namespace.status("acme")["revision"] == 2)


def heal(namespace: Namespace, aws: Emulator) -> None:
    """Edited and deleted by hand; asked for as well, because nobody may be watching."""
    namespace.kubectl("delete", "secret", "acme")
    namespace.issued(aws, "edited")
    namespace.patch("secret", "edited", {"data": None})
    for name, revision in (("acme", 3), ("edited", 2)):
        namespace.ask(name, "2")
        until(lambda of=name, wanted=revision: namespace.status(of)["revision"] >= wanted)  # type: ignore[misc]


def move(namespace: Namespace, aws: Emulator) -> None:
    """Another name for the Secret: the former one goes."""
    namespace.issued(aws, "moving")
    namespace.patch("treq", "moving", {"spec": {"target": {"secretName": "moved"}}})
    until(lambda: namespace.read("secret", "moving") == {} and namespace.read("secret", "moved"))


def rotate(namespace: Namespace, aws: Emulator) -> None:
    """A token that its issuer replaces; the issuer's CA is in a ConfigMap."""
    sign_in(namespace, aws)
    namespace.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca": aws.ca}})
    ca = {"caBundleFrom": {"configMapKeyRef": {"name": "ca", "key": "ca"}}}
    namespace.apply(rotating_request(aws, "rotating", exchanges=[refresh(aws, **ca)]))
    namespace.is_ready("rotating")


def of_service_account(namespace: Namespace, aws: Emulator) -> None:
    namespace.kubectl("create", "serviceaccount", "app")
    trust_the_cluster(aws, namespace)
    source = {"token": {"serviceAccount": {"name": "app", "expirationSeconds": 600}}}
    exchange = {"assumeRoleWithWebIdentity": {"roleArn": APP, "roleSessionName": "app"}}
    namespace.apply(token_request("app", source=source, exchanges=[exchange]))
    namespace.is_ready("app")


def delete(namespace: Namespace, _: Emulator) -> None:
    namespace.kubectl("delete", "treq", "--all")
    assert namespace.read("secret", "source-keyturn")


FLOWS: tuple[Flow, ...] = (issue_and_renew, heal, move, rotate, of_service_account, delete)
