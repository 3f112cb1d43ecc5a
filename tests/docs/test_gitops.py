"""The health that Argo CD and Flux derive from a TokenRequest in every state."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.gitops import SITUATIONS, Situation

CONFIG_MAP = Path(__file__).parents[2] / "examples" / "argocd" / "argocd-cm.yaml"
SCRIPT = yaml.safe_load(CONFIG_MAP.read_text())["data"]["resource.customizations.health.keyturn.dev_TokenRequest"]


def kstatus(body: dict[str, Any]) -> str:
    """Apply the rules of sigs.k8s.io/cli-utils/pkg/kstatus for custom resources, in its order."""
    metadata, status = body["metadata"], body.get("status", {})
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
    rules = (
        ("Terminating", "deletionTimestamp" in metadata),
        ("InProgress", status.get("observedGeneration", metadata["generation"]) != metadata["generation"]),
        ("InProgress", conditions.get("Reconciling") == "True"),
        ("Failed", conditions.get("Stalled") == "True"),
        ("InProgress", conditions.get("Ready", "True") != "True"),
    )
    return next((result for result, matches in rules if matches), "Current")


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS.keys())
def test_kstatus_of_flux(situation: Situation) -> None:
    assert kstatus(situation.body) == situation.kstatus


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS.keys())
def test_health_check_for_argo_cd(situation: Situation) -> None:
    lua51 = pytest.importorskip("lupa.lua51")  # Argo CD runs Lua 5.1 too
    lua = lua51.LuaRuntime(register_eval=False, register_builtins=False)
    lua.globals().obj = lua.table_from(situation.body, recursive=True)
    health = lua.execute(SCRIPT)

    assert health["status"] == situation.health
    assert health["message"]
