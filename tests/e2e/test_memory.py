"""A hundred megabytes of unrelated Secrets do not enter the operator's memory."""

import base64
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import Operator, running_operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until
from tools.bench.client import Client, run_all
from tools.bench.usage import memory_mib

NUMBER, SIZE = 150, 700_000
LIMIT_MIB = 5
# The operator watches two thirds of them, but only their metadata.
LABELS: tuple[dict[str, str], ...] = (
    {},
    {"keyturn.dev/source": "true"},
    {"app.kubernetes.io/managed-by": "keyturn"},
)


@pytest.fixture
async def other_namespace(installed: ControlPlane) -> AsyncIterator[Namespace]:
    """Another namespace, whose Secrets are deleted at the end."""
    namespace = Namespace.create(installed)
    yield namespace
    async with Client.connect(installed.kubeconfig) as client:
        await client.request("DELETE", f"/api/v1/namespaces/{namespace.name}/secrets?limit=500")


async def fill(namespace: Namespace) -> None:
    async with Client.connect(namespace.plane.kubeconfig) as client:
        await run_all(_make(client, namespace.name, number) for number in range(NUMBER))


async def _make(client: Client, namespace: str, number: int) -> None:
    metadata = {"name": f"big-{number}", "labels": LABELS[number % 3]}
    data = {"blob": base64.b64encode(os.urandom(SIZE)).decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
    await client.request("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)


def peak_after_a_renewal(operator: Operator, namespace: Namespace, value: str) -> float:
    """Renew, so that the operator has processed all earlier changes; returns its peak memory in MiB."""
    namespace.request_renewal("acme", value)
    until(lambda: namespace.status("acme").get("lastHandledRenewRequest") == value)
    return memory_mib(operator.process.pid, peak=True)


async def test_unrelated_secrets_use_no_memory(
    installed: ControlPlane, aws: Emulator, namespace: Namespace, other_namespace: Namespace, tmp_path: Path
) -> None:
    with running_operator(installed, aws, tmp_path) as operator:
        namespace.issue(aws)
        before = peak_after_a_renewal(operator, namespace, "1")
        await fill(other_namespace)
        after = peak_after_a_renewal(operator, namespace, "2")
        operator.stop()
        operator.start()
        after_restart = peak_after_a_renewal(operator, namespace, "3")

    assert after - before < LIMIT_MIB
    assert after_restart - before < LIMIT_MIB
