import asyncio
import threading
from pathlib import Path

import pytest

from keyturn.controller.app import NoClusterError, Options, load_configuration, lookup_threads


def options(lease_namespace: str | None) -> Options:
    return Options(
        kubeconfig=None,
        namespaces=(),
        http_bind_address="127.0.0.1:0",
        concurrent=1,
        leader_elect=True,
        lease_name="keyturn",
        lease_namespace=lease_namespace,
    )


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="no such file"),
        pytest.param("", id="an empty file"),
        pytest.param("{", id="invalid YAML"),
        pytest.param("current-context: missing\ncontexts: []\nclusters: []\nusers: []\n", id="no such context"),
    ],
)
async def test_invalid_kubeconfig_raises_no_cluster_error(content: str | None, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    if content is not None:
        kubeconfig.write_text(content)

    with pytest.raises(NoClusterError, match="no cluster: "):
        await load_configuration(str(kubeconfig))


@pytest.mark.parametrize(("option", "namespace"), [("keyturn", "keyturn"), (None, "default")])
def test_lease_namespace_is_the_option_or_default(option: str | None, namespace: str) -> None:
    assert options(option).election_namespace == namespace


async def test_slow_name_lookups_of_a_tenant_do_not_delay_others() -> None:
    loop, answered = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(lookup_threads(16))
    # What a minute of lookups that are never answered leaves behind, with a new one in each worker every five seconds.
    slow = [loop.run_in_executor(None, answered.wait, 30) for _ in range(100)]
    try:
        async with asyncio.timeout(5):
            assert await loop.getaddrinfo("127.0.0.1", 443)
    finally:
        answered.set()
        await asyncio.gather(*slow)
