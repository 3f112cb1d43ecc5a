"""A leader is ready when it has listed what it works with."""

import urllib.error
from pathlib import Path

import pytest

from tests.support.cluster.api_proxy import ApiProxy
from tests.support.cluster.operator import Operator, running_operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until

pytestmark = pytest.mark.cluster


def readiness(operator: Operator) -> str:
    """Return the text of /readyz, whatever its status is."""
    try:
        return operator.get("/readyz")
    except urllib.error.HTTPError as error:
        return error.read().decode()


def test_operator_that_may_not_list_secrets_is_not_ready(
    installed: ControlPlane, aws: Emulator, tmp_path: Path
) -> None:
    own, all_namespaces = ("limited", "--namespace=keyturn"), ("limited",)
    leases_and_key = ("--verb=get,create,patch", "--resource=leases.coordination.k8s.io,secrets")
    requests = ("--verb=list,watch", "--resource=tokenrequests.keyturn.dev,leases.coordination.k8s.io")
    account = "--serviceaccount=keyturn:limited"
    for arguments in (
        ("serviceaccount", *own),
        ("role", *own, *leases_and_key),
        ("rolebinding", *own, "--role=limited", account),
        ("clusterrole", *all_namespaces, *requests),
        ("clusterrolebinding", *all_namespaces, "--clusterrole=limited", account),
        ("clusterrolebinding", "limited-reviews", "--clusterrole=system:auth-delegator", account),
    ):
        installed.kubectl("create", *arguments)

    with running_operator(
        installed, aws, tmp_path, account=("keyturn", "limited"), flags=("--lease-name=limited",)
    ) as operator:
        until(lambda: 'cannot list resource \\"secrets\\"' in operator.log())
        until(lambda: 'cannot list resource "secrets"' in readiness(operator))
        assert operator.metric("keyturn_leader") == 1

        installed.kubectl("create", "clusterrole", "limited-secrets", "--verb=list,watch", "--resource=secrets")
        installed.kubectl("create", "clusterrolebinding", "limited-secrets", "--clusterrole=limited-secrets", account)
        # Other tests may have left the Lease of another installation, which /readyz mentions.
        until(lambda: readiness(operator).startswith("ok\n"), seconds=30)


def test_operator_that_may_not_read_its_lease_is_not_ready(
    installed: ControlPlane, aws: Emulator, tmp_path: Path
) -> None:
    with ApiProxy.running(installed) as proxy:
        proxy.add_fault("leases/keyturn$", 403, '{"kind": "Status", "apiVersion": "v1", "message": "no right"}')
        with running_operator(proxy, aws, tmp_path) as operator:
            until(lambda: "no right" in readiness(operator))
            proxy.clear_faults()
            until(lambda: readiness(operator).startswith("ok\n"), seconds=30)
