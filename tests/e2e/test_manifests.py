"""The API server accepts and rejects the same manifests as Python, with the same messages."""

from typing import Any

import pytest
import yaml

from tests.support.controlplane import ControlPlane
from tests.support.manifests import MANIFESTS


def dry_run(plane: ControlPlane, body: dict[str, Any]) -> str:
    """Apply with --dry-run=server; return kubectl's error message, empty if the manifest is accepted."""
    manifest = body | {"metadata": {"name": body["metadata"]["name"]}}
    command = ("--namespace", "default", "apply", "--dry-run=server", "-f", "-")
    try:
        plane.kubectl(*command, stdin=yaml.safe_dump(manifest))
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("body", "message"), [pytest.param(body, message, id=name) for name, (body, message) in MANIFESTS.items()]
)
def test_api_server_agrees_with_python(body: dict[str, Any], message: str | None, installed: ControlPlane) -> None:
    output = dry_run(installed, body)

    assert message in output if message else not output
    # A pattern of the schema, which is shown as it is, would be reported as "should match".
    assert "should match" not in output
    # If the evaluation of a rule fails, the API server prints the whole rule.
    assert "evaluating rule" not in output
