"""The type of a Secret, which the real API server lets nobody change."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from kubernetes.aio.client import ApiClient as KubernetesClient
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_kube_config

from keyturn.controller.api_client import ApiClient
from keyturn.controller.secret_store import SecretStore
from keyturn.core.errors import RefusedError
from keyturn.core.service_health import ServiceHealth
from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import Operator
from tests.support.emulator.running import Aws
from tests.support.manifest_text import writing
from tests.support.processes import until
from tests.unit.controller.test_secret_store import issuance

DOCKER = "kubernetes.io/dockerconfigjson"
RETAIN = {"deletionPolicy": "Retain"}  # an owner that is not there would have it collected
FILES, IMAGES = writing({"token": {}}, **RETAIN), writing({"dockerConfigJson": {}}, **RETAIN)
TOKEN, LOGINS = {"token": "x", "expiration": "y"}, {".dockerconfigjson": '{"auths": {}}', "expiration": "z"}


@asynccontextmanager
async def store_in(namespace: Namespace) -> AsyncIterator[SecretStore]:
    """The store of the operator, with the rights of its service account."""
    configuration = Configuration()
    kubeconfig = str(namespace.plane.service_account_kubeconfig("keyturn", "keyturn"))
    await load_kube_config(kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
    async with KubernetesClient(configuration) as client:
        yield SecretStore(ApiClient(client, ServiceHealth()))


def seen(namespace: Namespace) -> tuple[str, dict[str, str]]:
    return namespace.get("secret", "acme")["type"], namespace.secret_data("acme")


async def test_a_secret_of_another_type_is_made_anew_and_back(installed: object, namespace: Namespace) -> None:
    files, images = (replace(it, namespace=namespace.name) for it in (FILES, IMAGES))
    async with store_in(namespace) as store:
        await store.dry_run(images)
        await store.write(images, issuance(images), LOGINS)
        first, uid = seen(namespace), namespace.get("secret", "acme")["metadata"]["uid"]
        await store.write(images, issuance(images), LOGINS)
        again = namespace.get("secret", "acme")["metadata"]["uid"]
        await store.write(files, issuance(files), TOKEN)
        second = seen(namespace)
        await store.write(images, issuance(images), LOGINS)

    assert (first, second, seen(namespace)) == ((DOCKER, LOGINS), ("Opaque", TOKEN), (DOCKER, LOGINS))
    assert again == uid


async def test_a_refusal_of_the_new_one_leaves_the_old_one(installed: object, namespace: Namespace) -> None:
    files, images = (replace(it, namespace=namespace.name) for it in (FILES, IMAGES))
    async with store_in(namespace) as store:
        await store.write(files, issuance(files), TOKEN)
        with pytest.raises(RefusedError, match="dockerconfigjson") as refused:
            await store.write(images, issuance(images), {".dockerconfigjson": "no JSON"})

    assert refused.value.reason == "WriteDenied"
    assert seen(namespace) == ("Opaque", TOKEN)


def test_the_operator_sees_to_the_type_of_its_secret(operator: Operator, aws: Aws, namespace: Namespace) -> None:
    namespace.issue(aws)
    ours, before = namespace.get("secret", "acme"), namespace.secret_data("acme")
    about = {key: ours["metadata"][key] for key in ("name", "labels", "annotations", "ownerReferences")}
    theirs = {"apiVersion": "v1", "kind": "Secret", "type": DOCKER, "metadata": about}
    data = ours["data"] | {".dockerconfigjson": "e30="}

    namespace.patch("treq", "acme", {"spec": {"suspend": True}})
    namespace.wait_for_condition("acme", "Ready", "Suspended")
    namespace.kubectl("replace", "--force", "-f", "-", stdin=json.dumps(theirs | {"data": data}))
    namespace.patch("treq", "acme", {"spec": {"suspend": False}})
    namespace.request_renewal("acme", "1")

    until(lambda: namespace.status("acme")["revision"] == 2)
    until(lambda: namespace.get("secret", "acme")["type"] == "Opaque")
    namespace.wait_until_ready("acme")
    assert namespace.secret_data("acme").keys() == before.keys()
    assert (aws.calls("GetAccessToken"), "a bug" in operator.log()) == (2, False)
