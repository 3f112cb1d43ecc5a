from pathlib import Path

import pytest

from keyturn.controller.app import NoClusterError, Operator, Options, _lease_namespace, _secret_paths
from keyturn.core.settings import Settings
from tests.support.dependencies import NOW


def options(kubeconfig: str | None = None, lease_namespace: str | None = None) -> Options:
    return Options(
        kubeconfig=kubeconfig,
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
async def test_invalid_kubeconfig_prevents_the_start(content: str | None, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    if content is not None:
        kubeconfig.write_text(content)

    with pytest.raises(NoClusterError, match="no cluster: "):
        await Operator(options(str(kubeconfig)), Settings(), lambda: NOW, lambda: 0.0).run()


@pytest.mark.parametrize(
    ("namespaces", "paths"),
    [
        pytest.param((), ["/api/v1/secrets"], id="all namespaces"),
        pytest.param(("a", "b"), ["/api/v1/namespaces/a/secrets", "/api/v1/namespaces/b/secrets"], id="two namespaces"),
    ],
)
def test_secret_watch_paths_follow_the_namespaces(namespaces: tuple[str, ...], paths: list[str]) -> None:
    assert _secret_paths(namespaces) == paths


@pytest.mark.parametrize(("option", "namespace"), [("keyturn", "keyturn"), (None, "default")])
def test_lease_namespace_is_the_option_or_default(option: str | None, namespace: str) -> None:
    assert _lease_namespace(options(lease_namespace=option)) == namespace
