"""The chart's roles grant exactly the rights that the operator uses."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster.audit import Audit, Right, audited_plane, granted_rights, used_rights
from tests.support.cluster.chart import chart_objects
from tests.support.cluster.crd import CRD
from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import LOOPBACK, running_operator
from tests.support.cluster.rotating_source import refresh_step, rotating_request, sign_in
from tests.support.cluster.scope import scope_lease
from tests.support.cluster.sources import APP_ROLE_ARN, trust_service_account
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until

pytestmark = pytest.mark.cluster
TOKENS: dict[str, Any] = {"rbac": {"serviceAccountTokens": True}}
Flow = Callable[[Namespace, Emulator], None]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ControlPlane, Audit]]:
    """A cluster that logs the operator's requests and has not granted it any right yet."""
    with audited_plane(tmp_path_factory.mktemp("audited"), "system:serviceaccount:keyturn:keyturn") as (plane, audit):
        plane.kubectl("create", "namespace", "keyturn")
        plane.kubectl("apply", "-f", "-", stdin=chart_objects(only=["crds", "serviceaccount"]))
        plane.wait_for_crds(CRD)
        yield plane, audit


@pytest.mark.parametrize("watched", [True, False], ids=["with a watch of Secrets", "without"])
@pytest.mark.parametrize("scoped", [False, True], ids=["cluster-wide", "one namespace"])
def test_rights_granted_are_rights_used(
    audited: tuple[ControlPlane, Audit], aws: Emulator, tmp_path: Path, *, scoped: bool, watched: bool
) -> None:
    plane, audit = audited
    namespace, offset = Namespace.create(plane), audit.size
    scope = {"watchNamespaces": [namespace.name]} if scoped else {}
    roles = chart_objects({**TOKENS, "secrets": {"watch": watched}, **scope}, only=["rbac"])
    plane.kubectl("apply", "-f", "-", stdin=roles)
    flags = [f"--watch-namespace={name}" for names in scope.values() for name in names]
    flags += [] if watched else ["--no-watch-secrets"]
    other = Namespace.create(plane)
    # The Leases of a namespaced installation that was removed, and of one that may not be cluster-wide.
    forged = scope_lease("keyturn-cluster-scope", "cluster", holder="x", user=f"system:serviceaccount:{other.name}:x")
    other.apply(scope_lease("keyturn-scope", "namespaced", holder=None), forged, token_request())
    with running_operator(plane, aws, tmp_path, settings=LOOPBACK, flags=tuple(flags)) as operator:
        for flow in FLOWS:
            flow(namespace, aws)
        if not scoped:
            # It takes over the Lease in this namespace, and creates the one in the other namespace.
            other.wait_for_condition("acme", "Ready", "SourceNotFound")
        assert "internal error" not in operator.log()
    plane.kubectl("delete", "-f", "-", stdin=roles)
    plane.kubectl("delete", "lease/keyturn", "secret/keyturn-issuance-key", "--namespace=keyturn")

    events = list(audit.events(offset))
    assert [
        event["requestURI"] for event in events if event["annotations"]["authorization.k8s.io/decision"] != "allow"
    ] == []
    assert {_in_scope(right, scoped=scoped) for right in used_rights(events)} == granted_rights(roles)


def _in_scope(right: Right, *, scoped: bool) -> Right:
    """Remove the namespace of a right that a ClusterRole grants."""
    return right if scoped or right.namespace == "keyturn" else right._replace(namespace="")


def issue_and_renew(namespace: Namespace, aws: Emulator) -> None:
    namespace.issue(aws)
    namespace.renew(2)


def repair(namespace: Namespace, aws: Emulator) -> None:
    """Edit and delete Secrets, and request a renewal because Secrets may not be watched."""
    namespace.kubectl("delete", "secret", "acme")
    namespace.issue(aws, "edited")
    namespace.patch("secret", "edited", {"data": None})
    for name, revision in (("acme", 3), ("edited", 2)):
        namespace.request_renewal(name, "2")
        until(functools.partial(has_reached, namespace, name, revision))


def has_reached(namespace: Namespace, name: str, revision: int) -> bool:
    return namespace.revision(name) >= revision


def rename_secret(namespace: Namespace, aws: Emulator) -> None:
    namespace.issue(aws, "moving")
    namespace.patch("treq", "moving", {"spec": {"target": {"secretName": "moved"}}})
    until(lambda: namespace.get("secret", "moving") == {} and namespace.get("secret", "moved"))


def rotate(namespace: Namespace, aws: Emulator) -> None:
    """Use a rotating source whose issuer's CA is in a ConfigMap."""
    sign_in(namespace, aws)
    namespace.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca": aws.ca}})
    ca = {"caBundleFrom": {"configMapKeyRef": {"name": "ca", "key": "ca"}}}
    namespace.apply(rotating_request(aws, "rotating", exchanges=[refresh_step(aws, **ca)]))
    namespace.wait_until_ready("rotating")


def use_service_account(namespace: Namespace, aws: Emulator) -> None:
    namespace.kubectl("create", "serviceaccount", "app")
    trust_service_account(aws, namespace)
    source = {"token": {"serviceAccount": {"name": "app", "expirationSeconds": 600}}}
    exchange = {"assumeRoleWithWebIdentity": {"roleArn": APP_ROLE_ARN, "roleSessionName": "app"}}
    namespace.apply(token_request("app", source=source, exchanges=[exchange]))
    namespace.wait_until_ready("app")


def delete(namespace: Namespace, _: Emulator) -> None:
    namespace.kubectl("delete", "treq", "--all")
    assert namespace.get("secret", "source-keyturn")


FLOWS: tuple[Flow, ...] = (issue_and_renew, repair, rename_secret, rotate, use_service_account, delete)
