"""The type of a Secret, which the real API server lets nobody change."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_kube_config

from keyturn.controller.api_client import Kube
from keyturn.controller.secret_store import SecretStore
from keyturn.core.errors import RefusedError
from keyturn.core.service_health import Outages
from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import Operator
from tests.support.emulator.client import Emulator
from tests.support.manifest_text import writing
from tests.support.processes import until
from tests.unit.controller.test_secret_store import marks

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
    async with ApiClient(configuration) as client:
        yield SecretStore(Kube(client, Outages()))


def seen(namespace: Namespace) -> tuple[str, dict[str, str]]:
    return namespace.read("secret", "acme")["type"], namespace.data("acme")


async def test_a_secret_of_another_type_is_made_anew_and_back(installed: object, namespace: Namespace) -> None:
    files, images = (replace(it, namespace=namespace.name) for it in (FILES, IMAGES))
    async with store_in(namespace) as store:
        await store.rehearse(images)
        await store.write(images, marks(images), LOGINS)
        first, uid = seen(namespace), namespace.read("secret", "acme")["metadata"]["uid"]
        await store.write(images, marks(images), LOGINS)
        again = namespace.read("secret", "acme")["metadata"]["uid"]
        await store.write(files, marks(files), TOKEN)
        second = seen(namespace)
        await store.write(images, marks(images), LOGINS)

    assert (first, second, seen(namespace)) == ((DOCKER, LOGINS), ("Opaque", TOKEN), (DOCKER, LOGINS))
    assert again == uid


async def test_a_refusal_of_the_new_one_leaves_the_old_one(installed: object, namespace: Namespace) -> None:
    files, images = (replace(it, namespace=namespace.name) for it in (FILES, IMAGES))
    async with store_in(namespace) as store:
        await store.write(files, marks(files), TOKEN)
        with pytest.raises(RefusedError, match="dockerconfigjson") as refused:
            await store.write(images, marks(images), {".dockerconfigjson": "no JSON"})

    assert refused.value.reason == "WriteRefused"
    assert seen(namespace) == ("Opaque", TOKEN)


def test_the_operator_sees_to_the_type_of_its_secret(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issued(aws)
    ours, before = namespace.read("secret", "acme"), namespace.data("acme")
    about = {key: ours["metadata"][key] for key in ("name", "labels", "annotations", "ownerReferences")}
    theirs = {"apiVersion": "v1", "kind": "Secret", "type": DOCKER, "metadata": about}
    data = ours["data"] | {".dockerconfigjson": "e30="}

    namespace.patch("treq", "acme", {"spec": {"suspend": True}})
    namespace.turns("acme", "Ready", "Suspended")
    namespace.kubectl("replace", "--force", "-f", "-", stdin=json.dumps(theirs | {"data": data}))
    namespace.patch("treq", "acme", {"spec": {"suspend": False}})
    namespace.ask("acme", "1")

    until(lambda: namespace.status("acme")["revision"] == 2)
    until(lambda: namespace.read("secret", "acme")["type"] == "Opaque")
    namespace.is_ready("acme")
    assert namespace.data("acme").keys() == before.keys()
    assert (aws.calls("GetAccessToken"), "a bug" in operator.log()) == (2, False)
