"""Messages about invalid manifests and settings, and the limit on the memory that a spec takes."""

import ast
import json
import re
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import msgspec

from keyturn.api.base import EXPECTATION, InvalidSpecError

# The operator keeps each spec in memory for as long as its TokenRequest exists. Eight templates of the maximum length
# fit if they are ASCII. The limits in the schema count characters, but Python needs four bytes for each character of a
# text that contains an emoji.
MAX_SPEC_BYTES = 192 * 1024
# Ends messages about a value that needs quotes or brackets in YAML. Only `keyturn check` replaces it with the value.
VALUE_PLACEHOLDER = "the value"
_LONGEST_VALUE = 64
_ENUM = "Invalid enum value "
_PATTERN = "Expected `str` matching regex "
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING_FIELD = re.compile(r"Object missing required field `(.*)`")
_TYPE = re.compile(r"Expected `(\w+)(?: \| null)?`, got `(\w+)`")
_LIMIT = re.compile(r"Expected `(\w+)`(?: of length)? ([<>]=) (.+)")
_NOT_TEXT = ("int", "float", "bool")
_TYPES = {"str": "string", "int": "integer", "bool": "boolean", "float": "number"}
_UNITS = {"str": "character", "array": "item", "object": "entry"}
_LOCATION = re.compile(r" - at (`key` in )?`\$(.*)`\Z", re.DOTALL)
# A field, an item of a list, or a value of a map, whose key msgspec does not show.
_NAME = re.compile(r"[A-Za-z]\w*")
_STEP = re.compile(r"\w+|\[[0-9]+\]|\[\.\.\.\]")


class Problem(NamedTuple):
    """What is wrong with the value at a path, which is empty if it is not known."""

    message: str
    path: str


def validation_message(error: msgspec.ValidationError, kind: type, prefix: str = "") -> str:
    """Return the problem of `validation_problem` as "MESSAGE (at PATH)"."""
    problem = validation_problem(error, kind, prefix)
    return f"{problem.message} (at {problem.path})" if problem.path else problem.message


def validation_problem(error: msgspec.ValidationError, kind: Any, prefix: str = "") -> Problem:
    """Turn msgspec's "MESSAGE - at `$.spec.x`" about a value of type `kind` into a message in words and the path.

    An enum lists the allowed values, as the API server does, and a pattern is replaced by its expectation. `prefix` is
    the path of the value itself. The message is one line, although it may contain the name of an unknown field, which
    may be any text.
    """
    problem, inner, is_key = str(error), "", False
    if location := _LOCATION.search(problem):
        problem, inner, is_key = problem[: location.start()], location[2].lstrip("."), bool(location[1])
    path = ".".join(filter(None, (prefix, inner)))
    problem = _in_words(problem, _subject(path, is_key=is_key), lambda: _node(kind, inner), is_key=is_key).lstrip()
    has_path = bool(location or prefix)
    return Problem(_on_one_line(problem), _on_one_line(path or "the manifest") if has_path else "")


def unknown_field(name: str) -> str:
    """Return the message about a field that a type does not have."""
    return f"unknown field `{_on_one_line(name)}`"


def missing_field(name: str) -> str:
    """Return the message about a required field."""
    return f"required field `{name}` is missing"


def _on_one_line(text: str) -> str:
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def _subject(path: str, *, is_key: bool) -> str:
    name = next(reversed(_NAME.findall(path)), "")
    if is_key:
        return f"each key of {name}"
    return f"each of {name}" if path.endswith("]") else name


def _in_words(problem: str, subject: str, node: Callable[[], dict[str, Any]], *, is_key: bool) -> str:
    if problem.startswith(_ENUM):
        value = ast.literal_eval(problem.removeprefix(_ENUM))[:_LONGEST_VALUE]
        quoted, *supported = (json.dumps(text, ensure_ascii=False) for text in (value, *node()["enum"]))
        return f"Unsupported value: {quoted}: supported values: {', '.join(supported)}"
    if problem.startswith(_PATTERN):
        schema = node()["propertyNames"] if is_key else node()
        return f"{subject} must be {schema[EXPECTATION]}"
    for pattern, in_words in ((_UNKNOWN_FIELD, unknown_field), (_MISSING_FIELD, missing_field)):
        if field := pattern.fullmatch(problem):
            return in_words(field[1])
    if types := _TYPE.fullmatch(problem):
        return f"{subject} must be {_type_in_words(types[1], types[2], node)}"
    if limit := _LIMIT.fullmatch(problem):
        return f"{subject} must {_limit_in_words(*limit.groups())}"
    return problem


def _type_in_words(expected: str, actual: str, node: Callable[[], dict[str, Any]]) -> str:
    if expected == "str" and actual in _NOT_TEXT:
        return f"text: put quotes around {VALUE_PLACEHOLDER}"
    if expected == "array":
        return f"a list{_list_hint(node()['items'], actual)}"
    return f"of type {_TYPES.get(expected, expected)}, not {_TYPES.get(actual, actual)}"


def _list_hint(item: dict[str, Any], actual: str) -> str:
    """Return how to make a list of a value, which is possible only if the items have no fields."""
    if "$ref" in item or actual not in ("str", *_NOT_TEXT):
        return f", but is of type {_TYPES.get(actual, actual)}"
    return f": put {'brackets' if actual == 'str' else 'quotes and brackets'} around {VALUE_PLACEHOLDER}"


def _limit_in_words(kind: str, operator: str, number: str) -> str:
    bound = f"at {'least' if operator == '>=' else 'most'} {number}"
    if kind not in _UNITS:
        return f"be {bound}"
    unit = _UNITS[kind]
    plural = f"{unit}s" if unit != "entry" else "entries"
    return f"have {bound} {unit if number == '1' else plural}"


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
