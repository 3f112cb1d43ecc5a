"""The type of a Secret, which cannot be changed on the real API server: test_registries.py lets the operator do so."""

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
from tests.support.issuance_keys import KEYS
from tests.support.manifest_text import with_formats
from tests.support.secret_store import issuance

RETAIN = {"deletionPolicy": "Retain"}  # the garbage collector deletes a Secret whose owner does not exist
FORMATS = (with_formats({"token": {}}, **RETAIN), with_formats({"dockerConfigJson": {}}, **RETAIN))
TOKEN = {"token": "x", "expiration": "y"}


async def test_rejected_replacement_leaves_the_old_secret(namespace: Namespace) -> None:
    files, images = (replace(request, namespace=namespace.name) for request in FORMATS)
    configuration = Configuration()
    kubeconfig = str(namespace.plane.service_account_kubeconfig("keyturn", "keyturn"))
    await load_kube_config(kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
    async with KubernetesClient(configuration) as client:
        store = SecretStore(ApiClient(client, ServiceHealth()), KEYS)
        await store.write(files, issuance(files), TOKEN)
        with pytest.raises(RefusedError, match="dockerconfigjson") as error:
            await store.write(images, issuance(images), {".dockerconfigjson": "no JSON"})

    assert error.value.reason == "WriteDenied"
    assert (namespace.get("secret", "acme")["type"], namespace.secret_data("acme")) == ("Opaque", TOKEN)
