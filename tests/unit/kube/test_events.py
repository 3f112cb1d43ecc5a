import asyncio
from typing import Any

import kopf
import pytest
from kubernetes.aio.client import Configuration

from keyturn.kube.events import _connection, _Everything, _settings


def test_kopf_asks_for_no_right_that_a_namespaced_install_lacks() -> None:
    settings = _settings()

    assert (settings.scanning.disabled, settings.posting.enabled, settings.peering.standalone) == (
        True,
        False,
        True,
    )


def test_nobody_can_have_kopf_write_to_an_object_or_read_what_it_never_wrote() -> None:
    persistence = _settings().persistence
    theirs: Any = {"metadata": {"annotations": {"kopf.zalando.org/last-handled-configuration": "not JSON"}}}

    assert persistence.finalizer != _settings().persistence.finalizer
    assert persistence.diffbase_storage.fetch(body=kopf.Body(theirs)) is None


@pytest.mark.parametrize(
    ("value", "scheme", "token"),
    [
        pytest.param("Bearer abc", "Bearer", "abc", id="a service account"),
        pytest.param("abc", None, "abc", id="a token without a scheme"),
        pytest.param(None, None, None, id="a client certificate only"),
    ],
)
async def test_kopf_speaks_to_the_same_api_server(
    value: str | None, scheme: str | None, token: str | None
) -> None:
    configuration = Configuration(host="https://127.0.0.1:6443", ssl_ca_cert="/ca.crt")
    if value:
        configuration.api_key = {"BearerToken": value}
    connection = await _connection(configuration)

    assert (connection.server, connection.ca_path) == ("https://127.0.0.1:6443", "/ca.crt")
    assert (connection.scheme, connection.token, connection.insecure) == (scheme, token, False)


async def test_kopf_leaves_our_tasks_alone_when_it_ends() -> None:
    task = asyncio.current_task()

    assert task in _Everything()
    assert {each for each in asyncio.all_tasks() if each not in _Everything()} == set()
