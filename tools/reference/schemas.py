"""JSON Schemas of the commands' output with -o json."""

import json
from typing import Any

import msgspec

from keyturn.cli.check.findings import CheckResult
from keyturn.cli.kubectl.describe import RequestView
from keyturn.cli.kubectl.operator_commands import Diagnosis, Versions

# By the name of the command. Without a single name, `status` prints a list.
OUTPUTS: dict[str, Any] = {
    "check": CheckResult,
    "doctor": Diagnosis,
    "status": RequestView | tuple[RequestView, ...],
    "version": Versions,
}


def schema(command: str) -> str:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(OUTPUTS[command])}
    return json.dumps(schema, indent=2) + "\n"
