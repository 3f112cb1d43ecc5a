"""Messages about invalid manifests and settings, and the limit on the memory that a spec takes."""

import ast
import json
import re
import sys
from functools import cache
from typing import Any

import msgspec

from keyturn.api.base import EXPECTATION, InvalidSpecError

# The operator keeps each spec in memory for as long as its TokenRequest exists. Eight templates of the maximum length
# fit if they are ASCII. The limits in the schema count characters, but Python needs four bytes for each character of a
# text that contains an emoji.
MAX_SPEC_BYTES = 192 * 1024
_LONGEST_VALUE = 64
_ENUM = "Invalid enum value "
_PATTERN = "Expected `str` matching regex "
_LOCATION = re.compile(r" - at (`key` in )?`\$(.*)`\Z", re.DOTALL)
# A field, an item of a list, or a value of a map, whose key msgspec does not show.
_NAME = re.compile(r"[A-Za-z]\w*")
_STEP = re.compile(r"\w+|\[[0-9]+\]|\[\.\.\.\]")


def validation_message(error: msgspec.ValidationError, kind: type) -> str:
    """Turn msgspec's "MESSAGE - at `$.spec.x`" about a value of type `kind` into "MESSAGE (at spec.x)", on one line.

    An enum lists the allowed values, as the API server does, and a pattern is replaced by its expectation. The message
    may contain the name of an unknown field, which may be any text.
    """
    problem, path = str(error), ""
    if location := _LOCATION.search(problem):
        problem, path = problem[: location.start()], location[2].lstrip(".") or "the manifest"
        problem = _in_words(problem, path, _node(kind, path), is_key=bool(location[1]))
    message = f"{problem} (at {path})" if path else problem
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in message)


def _in_words(problem: str, path: str, node: dict[str, Any], *, is_key: bool) -> str:
    if problem.startswith(_ENUM):
        value = ast.literal_eval(problem.removeprefix(_ENUM))[:_LONGEST_VALUE]
        quoted, *supported = (json.dumps(text, ensure_ascii=False) for text in (value, *node["enum"]))
        return f"Unsupported value: {quoted}: supported values: {', '.join(supported)}"
    if problem.startswith(_PATTERN):
        name = [*_NAME.finditer(path)][-1][0]
        if is_key:
            return f"each key of {name} must be {node['propertyNames'][EXPECTATION]}"
        return f"{'each of ' if path.endswith(']') else ''}{name} must be {node[EXPECTATION]}"
    return problem


@cache
def _schemas(kind: type) -> dict[str, Any]:
    (root,), components = msgspec.json.schema_components((kind,), ref_template="{name}")
    return {**components, "": root}


def _node(kind: type, path: str) -> dict[str, Any]:
    """Return the schema at a path such as spec.exchanges[0].oauthToken."""
    schemas = _schemas(kind)
    node = _resolved(schemas[""], schemas)
    for step in _STEP.findall(path):
        keyword = "additionalProperties" if step == "[...]" else "items"
        child = node.get(keyword) if step.startswith("[") else node.get("properties", {}).get(step)
        node = _resolved(child or {}, schemas)
    return node


def _resolved(node: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """Follow references, and replace "X or null" by X."""
    if "anyOf" in node:
        node = next(option for option in node["anyOf"] if option != {"type": "null"})
    return _resolved(schemas[node["$ref"]], schemas) if "$ref" in node else node


def spec_bytes(spec: Any) -> int:
    """Return how many bytes of memory a JSON value takes in Python."""
    total, values = 0, [spec]
    while values:
        value = values.pop()
        total += sys.getsizeof(value)
        if isinstance(value, dict):
            values += [*value, *value.values()]
        elif isinstance(value, list):
            values += value
    return total


def check_spec_bytes(size: int) -> None:
    """Raise InvalidSpecError if a spec takes too much memory."""
    if size > MAX_SPEC_BYTES:
        raise InvalidSpecError(
            f"the spec needs {size // 1024} KiB of memory, but at most {MAX_SPEC_BYTES // 1024} KiB are allowed:"
            " shorten templates, labels and annotations, or use only ASCII characters in them (at spec)"
        )
