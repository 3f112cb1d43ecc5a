"""The type of a Secret, which cannot be changed on the real API server."""

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
from tests.support.emulator.client import Emulator
from tests.support.manifest_text import with_formats
from tests.support.processes import until
from tests.support.secret_store import issuance

DOCKER = "kubernetes.io/dockerconfigjson"
RETAIN = {"deletionPolicy": "Retain"}  # the garbage collector deletes a Secret whose owner does not exist
FILES, IMAGES = with_formats({"token": {}}, **RETAIN), with_formats({"dockerConfigJson": {}}, **RETAIN)
TOKEN, LOGINS = {"token": "x", "expiration": "y"}, {".dockerconfigjson": '{"auths": {}}', "expiration": "z"}


@asynccontextmanager
async def store_in(namespace: Namespace) -> AsyncIterator[SecretStore]:
    """Return the operator's store, with the permissions of its ServiceAccount."""
    configuration = Configuration()
    kubeconfig = str(namespace.plane.service_account_kubeconfig("keyturn", "keyturn"))
    await load_kube_config(kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
    async with KubernetesClient(configuration) as client:
        yield SecretStore(ApiClient(client, ServiceHealth()))


def type_and_data(namespace: Namespace) -> tuple[str, dict[str, str]]:
    return namespace.get("secret", "acme")["type"], namespace.secret_data("acme")


async def test_secret_is_replaced_to_change_its_type(installed: object, namespace: Namespace) -> None:
    files, images = (replace(request, namespace=namespace.name) for request in (FILES, IMAGES))
    async with store_in(namespace) as store:
        await store.dry_run(images)
        await store.write(images, issuance(images), LOGINS)
        first, uid = type_and_data(namespace), namespace.get("secret", "acme")["metadata"]["uid"]
        await store.write(images, issuance(images), LOGINS)
        again = namespace.get("secret", "acme")["metadata"]["uid"]
        await store.write(files, issuance(files), TOKEN)
        second = type_and_data(namespace)
        await store.write(images, issuance(images), LOGINS)

    assert (first, second, type_and_data(namespace)) == ((DOCKER, LOGINS), ("Opaque", TOKEN), (DOCKER, LOGINS))
    assert again == uid


async def test_rejected_replacement_leaves_the_old_secret(installed: object, namespace: Namespace) -> None:
    files, images = (replace(request, namespace=namespace.name) for request in (FILES, IMAGES))
    async with store_in(namespace) as store:
        await store.write(files, issuance(files), TOKEN)
        with pytest.raises(RefusedError, match="dockerconfigjson") as error:
            await store.write(images, issuance(images), {".dockerconfigjson": "no JSON"})

    assert error.value.reason == "WriteDenied"
    assert type_and_data(namespace) == ("Opaque", TOKEN)


def test_operator_repairs_the_type_of_its_secret(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    secret, before = namespace.get("secret", "acme"), namespace.secret_data("acme")
    metadata = {key: secret["metadata"][key] for key in ("name", "labels", "annotations", "ownerReferences")}
    replacement = {"apiVersion": "v1", "kind": "Secret", "type": DOCKER, "metadata": metadata}
    data = secret["data"] | {".dockerconfigjson": "e30="}

    namespace.patch("treq", "acme", {"spec": {"suspend": True}})
    namespace.wait_for_condition("acme", "Ready", "Suspended")
    namespace.kubectl("replace", "--force", "-f", "-", stdin=json.dumps(replacement | {"data": data}))
    namespace.patch("treq", "acme", {"spec": {"suspend": False}})
    namespace.request_renewal("acme", "1")

    until(lambda: namespace.status("acme")["revision"] == 2)
    until(lambda: namespace.get("secret", "acme")["type"] == "Opaque")
    namespace.wait_until_ready("acme")
    assert namespace.secret_data("acme").keys() == before.keys()
    assert (aws.calls("GetAccessToken"), "a bug" in operator.log()) == (2, False)
