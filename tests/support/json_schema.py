"""The JSON Schemas that docs/reference publishes for `-o json`."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

_SCHEMAS = Path(__file__).parents[2] / "docs" / "reference" / "schemas"


def load_valid(command: str, output: str) -> Any:
    """Parse the output of a command, and assert that its published schema describes every field."""
    document, schema = json.loads(output), json.loads((_SCHEMAS / f"{command}.json").read_text())
    strict = json.loads(json.dumps(schema), object_hook=_without_additions)
    problems = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(strict).iter_errors(document)]
    assert problems == []
    return document


def _without_additions(node: dict[str, Any]) -> dict[str, Any]:
    """Refuse fields that the schema does not describe."""
    return node | {"additionalProperties": False} if node.get("type") == "object" and "properties" in node else node
