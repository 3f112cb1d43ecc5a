"""The API server takes and refuses what Python takes and refuses, in the same words."""

from typing import Any

import pytest
import yaml

from tests.support.controlplane import ControlPlane
from tests.support.manifests import MANIFESTS


def _dry_run(plane: ControlPlane, body: dict[str, Any]) -> str:
    """Apply without writing; returns what kubectl said when it was refused."""
    plain = body | {"metadata": {"name": body["metadata"]["name"]}}
    command = ("--namespace", "default", "apply", "--dry-run=server", "-f", "-")
    try:
        plane.kubectl(*command, stdin=yaml.safe_dump(plain))
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("body", "says"), [pytest.param(body, says, id=name) for name, (body, says) in MANIFESTS.items()]
)
def test_the_api_server_agrees(body: dict[str, Any], says: str | None, installed: ControlPlane) -> None:
    answer = _dry_run(installed, body)

    assert says in answer if says else not answer
    # Where a rule itself fails, the API server prints all of it: pages of CEL.
    assert "evaluating rule" not in answer
