"""The largest objects that the API server accepts neither end the operator nor delay the renewals of others."""

import asyncio
import itertools
import json
import string
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster.leadership import is_ready
from tests.support.cluster.memory_limit import limited_program
from tests.support.cluster.namespace import ROLE, Namespace, token_request
from tests.support.cluster.operator import running_operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until
from tools.bench.client import Client
from tools.bench.usage import memory_mib

pytestmark = [pytest.mark.cluster, pytest.mark.long]
LIMIT_MIB = 512  # of the chart
OURS = {"app.kubernetes.io/managed-by": "keyturn"}
SOURCE = {"keyturn.dev/source": "true"}
KEYS = {"AWS_ACCESS_KEY_ID": "QUtJQTE=", "AWS_SECRET_ACCESS_KEY": "a2V5"}
MANY_KEYS = {"".join(key): "" for key in itertools.islice(itertools.product(string.ascii_letters, repeat=3), 65_000)}
ESCAPED = "<" * 250_000  # six times as large in JSON


@pytest.fixture
async def other_tenant(installed: ControlPlane) -> AsyncIterator[Namespace]:
    """Another tenant's namespace, whose objects are deleted at the end."""
    namespace = Namespace.create(installed)
    yield namespace
    async with Client.connect(installed.kubeconfig) as client:
        for path in ("/api/v1/namespaces/{}/secrets", "/apis/keyturn.dev/v1alpha1/namespaces/{}/tokenrequests"):
            await client.request("DELETE", path.format(namespace.name))


def secret(name: str, **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": OURS} | metadata}


def owner(name: str) -> dict[str, str]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": "00000000-0000-0000-0000-000000000001"}


def deep(levels: int) -> dict[str, Any]:
    fields: Any = json.loads('{"f:x":' * levels + "{}" + "}" * levels)
    return {"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields}


async def fill(namespace: Namespace) -> None:
    """Create about 350 MB of JSON."""
    labels = {f"l{number}": "" for number in range(5_000)}
    notes = {f"n{number}": "" for number in range(5_000)}
    owners = [owner("a") | {"uid": f"{number:032x}"} for number in range(3_000)]
    secrets = [
        *(secret(f"annotation-{number}", annotations={"a": ESCAPED}) for number in range(150)),
        *(secret(f"owner-{number}", ownerReferences=[owner("<" * 700_000)]) for number in range(5)),
        *(secret(f"owners-{number}", ownerReferences=owners) for number in range(5)),
        *(secret(f"labels-{number}", labels=labels | OURS) for number in range(5)),
        *(secret(f"notes-{number}", annotations=notes) for number in range(5)),
        secret("deep", managedFields=[deep(900)]),
        # As many keys as fit together with the managedFields of each.
        *({**secret(name, labels=SOURCE), "data": MANY_KEYS | KEYS} for name in ("many-1", "many-2")),
    ]
    requests = [
        token_request(f"annotation-{number}")
        | {"metadata": {"name": f"r{number}", "annotations": {"a": "x" * 250_000}}}
        for number in range(100)
    ]
    # Python needs four bytes for each of these characters.
    templates = [{"template": {"key": f"k{number}", "text": "\U0001f511" * 10_000}} for number in range(7)]
    requests += [
        token_request(f"template-{number}", suspend=True, target={"formats": [{"env": {}}, *templates]})
        for number in range(100)
    ]
    source = {
        "token": {"secretKeyRef": {"name": "many-1", "key": "AWS_SECRET_ACCESS_KEY"}},
        "credentials": {"secretRef": {"name": "many-2"}},
    }
    role: dict[str, Any] = {"assumeRole": {"roleArn": ROLE}}
    exchanges = [{"licenseManagerGetAccessToken": {}}, role]
    requests += [token_request(f"reader-{number}", source=source, exchanges=exchanges) for number in range(50)]
    # One by one: together, they would overload the API server.
    async with Client.connect(namespace.plane.kubeconfig) as client:
        path = f"/api/v1/namespaces/{namespace.name}/secrets"
        for body in secrets:
            await client.request("POST", path, body)
        path = f"/apis/keyturn.dev/v1alpha1/namespaces/{namespace.name}/tokenrequests"
        for body in requests:
            await client.request("POST", path, body)


@pytest.fixture
async def many_namespaces(installed: ControlPlane) -> AsyncIterator[list[Namespace]]:
    """Forty namespaces of one tenant, each with 9 MB of JSON to list."""
    namespaces = [Namespace.create(installed) for _ in range(40)]
    path = "/api/v1/namespaces/{}/secrets"
    async with Client.connect(installed.kubeconfig) as client:
        for namespace, number in itertools.product(namespaces, range(6)):
            body = secret(f"large-{number}", labels=OURS | SOURCE, annotations={"a": ESCAPED})
            await client.request("POST", path.format(namespace.name), body)
        yield namespaces
        for namespace in namespaces:
            await client.request("DELETE", path.format(namespace.name))


async def test_many_namespaces_do_not_end_an_operator_that_watches_them(
    installed: ControlPlane, aws: Emulator, namespace: Namespace, many_namespaces: list[Namespace], tmp_path: Path
) -> None:
    watched = tuple(f"--watch-namespace={it.name}" for it in (namespace, *many_namespaces))
    namespace.put_token(aws.refresh_token())
    namespace.apply(token_request("acme"))
    with (
        limited_program(LIMIT_MIB * 2**20) as program,
        running_operator(installed, aws, tmp_path, flags=(*watched, "--no-leader-elect"), program=program) as operator,
    ):
        until(lambda: is_ready(operator), seconds=60, every=1)
        namespace.wait_until_ready("acme")
        async with Client.connect(installed.kubeconfig) as client, asyncio.TaskGroup() as tasks:
            edit = {"metadata": {"annotations": {"a": f"{ESCAPED}>"}}}
            for it in many_namespaces:
                path = f"/api/v1/namespaces/{it.name}/secrets/large-0"
                tasks.create_task(client.request("PATCH", path, edit, "application/merge-patch+json"))
        namespace.renew(2)
        peak = memory_mib(operator.process.pid, peak=True)
    # Measured: 250 MiB. Without a limit for all lists and watches together, it was 620 MiB.
    assert peak < LIMIT_MIB * 3 / 4


async def test_largest_objects_neither_end_the_operator_nor_delay_others(
    installed: ControlPlane, aws: Emulator, namespace: Namespace, other_tenant: Namespace, tmp_path: Path
) -> None:
    with (
        limited_program(LIMIT_MIB * 2**20) as program,
        running_operator(installed, aws, tmp_path, program=program) as operator,
    ):
        aws.settings(session_seconds=90)
        namespace.issue(aws)
        await fill(other_tenant)
        for number in range(5):
            other_tenant.kubectl("annotate", "secret", "many-1", "many-2", f"edit={number}", "--overwrite")
        revision = namespace.revision()
        until(lambda: namespace.revision() >= revision + 1, seconds=60)
        while_running = memory_mib(operator.process.pid, peak=True)

        operator.stop()
        operator.start()
        revision = namespace.revision()
        until(lambda: namespace.revision() >= revision + 2, seconds=120)
        after_restart = memory_mib(operator.process.pid, peak=True)
    # Measured without the sources of many keys: 114 MiB and, after a restart, 128 MiB.
    assert max(while_running, after_restart) < LIMIT_MIB / 2
    assert "Expired" not in namespace.events("acme")
