"""A hundred megabytes of other people's Secrets: none of it sits in the operator's memory."""

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
from tools.bench.client import Client, all_of
from tools.bench.usage import memory_mib

NUMBER, SIZE = 150, 700_000
MIB = 5
# Each third is one that the operator watches: even of those it must see metadata only.
LABELS: tuple[dict[str, str], ...] = (
    {},
    {"keyturn.dev/source": "true"},
    {"app.kubernetes.io/managed-by": "keyturn"},
)


@pytest.fixture
async def others(installed: ControlPlane) -> AsyncIterator[Namespace]:
    """The namespace of somebody else; all that is in it is deleted in the end."""
    namespace = Namespace.created(installed)
    yield namespace
    async with Client.of(installed.kubeconfig) as client:
        await client.ask("DELETE", f"/api/v1/namespaces/{namespace.name}/secrets?limit=500")


async def fill(namespace: Namespace) -> None:
    async with Client.of(namespace.plane.kubeconfig) as client:
        await all_of(_make(client, namespace.name, number) for number in range(NUMBER))


async def _make(client: Client, namespace: str, number: int) -> None:
    about = {"name": f"big-{number}", "labels": LABELS[number % 3]}
    data = {"blob": base64.b64encode(os.urandom(SIZE)).decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": about, "data": data}
    await client.ask("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)


def peak_after_a_renewal(operator: Operator, namespace: Namespace, value: str) -> float:
    """The most memory that it had, in MiB, once a renewal shows that it has seen all that came before."""
    namespace.ask("acme", value)
    until(lambda: namespace.status("acme").get("lastHandledRenewRequest") == value)
    return memory_mib(operator.process.pid, peak=True)


async def test_big_secrets_of_others_cost_no_memory(
    installed: ControlPlane, aws: Emulator, namespace: Namespace, others: Namespace, tmp_path: Path
) -> None:
    with running_operator(installed, aws, tmp_path) as operator:
        namespace.issued(aws)
        without = peak_after_a_renewal(operator, namespace, "1")
        await fill(others)
        meanwhile = peak_after_a_renewal(operator, namespace, "2")
        operator.stop()
        operator.start()
        from_the_start = peak_after_a_renewal(operator, namespace, "3")

    assert meanwhile - without < MIB
    assert from_the_start - without < MIB
