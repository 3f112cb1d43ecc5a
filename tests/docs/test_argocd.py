"""The health check for Argo CD, run by a Lua 5.1 as Argo CD's is, on a TokenRequest in every situation."""

from pathlib import Path

import pytest
import yaml

from tests.support.gitops import SITUATIONS, Situation

lua51 = pytest.importorskip("lupa.lua51")
CONFIG_MAP = Path(__file__).parents[2] / "examples" / "argocd" / "argocd-cm.yaml"
SCRIPT = yaml.safe_load(CONFIG_MAP.read_text())["data"]["resource.customizations.health.keyturn.dev_TokenRequest"]


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS.keys())
def test_health(situation: Situation) -> None:
    lua = lua51.LuaRuntime(register_eval=False, register_builtins=False)
    lua.globals().obj = lua.table_from(situation.body, recursive=True)
    health = lua.execute(SCRIPT)

    assert health["status"] == situation.health
    assert health["message"]
