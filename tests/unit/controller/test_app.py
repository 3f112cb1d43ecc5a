from pathlib import Path

import pytest

from keyturn.controller.app import NoClusterError, Options, load_configuration


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
