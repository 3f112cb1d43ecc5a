"""What Flux and others that compute kstatus make of a TokenRequest, by kstatus's own rules."""

from typing import Any

import pytest

from tests.support.gitops import SITUATIONS, Situation


def kstatus(body: dict[str, Any]) -> str:
    """The rules of sigs.k8s.io/cli-utils/pkg/kstatus for kinds that it does not know, in its order."""
    metadata, status = body["metadata"], body.get("status", {})
    conditions = {it["type"]: it["status"] for it in status.get("conditions", [])}
    rules = (
        ("Terminating", "deletionTimestamp" in metadata),
        ("InProgress", status.get("observedGeneration", metadata["generation"]) != metadata["generation"]),
        ("InProgress", conditions.get("Reconciling") == "True"),
        ("Failed", conditions.get("Stalled") == "True"),
        ("InProgress", conditions.get("Ready", "True") != "True"),
    )
    return next((name for name, holds in rules if holds), "Current")


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS.keys())
def test_kstatus(situation: Situation) -> None:
    assert kstatus(situation.body) == situation.kstatus
