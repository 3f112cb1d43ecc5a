"""Validation against botocore's models; botocore itself ignores maximums, patterns and enums."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

# AWS's character classes for letters, separators and digits, and Python's, which include `_` as the patterns do.
_UNICODE_CLASSES = r"\p{L}\p{Z}\p{N}", r"\w \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
Constraints = Mapping[str, dict[str, Any]]
_TYPES: dict[str, Any] = {
    "structure": dict, "list": list, "map": dict, "string": str, "integer": int, "long": int, "boolean": bool,
    "timestamp": datetime,
}  # fmt: skip


def violations(shape: Shape, value: Any, path: str, more: Constraints) -> Iterator[str]:
    """Describe each violation of the shape; `more` has further constraints by the shape's name."""
    # isinstance would accept a bool as an integer.
    if type(value) is not _TYPES[shape.type_name]:
        yield _violation(shape, value, path, f"Member must be a {shape.type_name}")
        return
    constraints = {**shape.metadata, **more.get(shape.name, {})}
    yield from (_violation(shape, value, path, rule) for rule in _violated_constraints(constraints, value))
    if isinstance(shape, StructureShape):
        for name in {*shape.required_members} - value.keys():
            yield _violation(shape, None, f"{path}.{name}", "Member must not be null")
        for name in value.keys() - shape.members.keys():
            yield _violation(shape, None, f"{path}.{name}", "Member is unknown")
    for inner, item, key in _items(shape, value):
        yield from violations(inner, item, f"{path}.{key}", more)


def _items(shape: Shape, value: Any) -> Iterator[tuple[Shape, Any, str]]:
    if isinstance(shape, StructureShape):
        yield from ((shape.members[name], item, name) for name, item in value.items() if name in shape.members)
    if isinstance(shape, ListShape):
        yield from ((shape.member, item, f"{index}.member") for index, item in enumerate(value, 1))
    if isinstance(shape, MapShape):
        yield from ((shape.key, name, "key") for name in value)
        yield from ((shape.value, item, name) for name, item in value.items())


def _violated_constraints(constraints: dict[str, Any], value: Any) -> Iterator[str]:
    size = value if isinstance(value, int) else len(value) if isinstance(value, str | list | dict) else 0
    if "min" in constraints and size < constraints["min"]:
        yield f"Member must have value or length greater than or equal to {constraints['min']}"
    if "max" in constraints and size > constraints["max"]:
        yield f"Member must have value or length less than or equal to {constraints['max']}"
    if "pattern" in constraints and not re.fullmatch(constraints["pattern"].replace(*_UNICODE_CLASSES), value):
        yield f"Member must satisfy regular expression pattern: {constraints['pattern']}"
    if "enum" in constraints and value not in constraints["enum"]:
        yield f"Member must satisfy enum value set: {constraints['enum']}"


def _violation(shape: Shape, value: Any, path: str, rule: str) -> str:
    # AWS repeats the value, which exposes a client that copies AWS's messages into its logs.
    shown = "***" if shape.metadata.get("sensitive") else value
    return f"Value '{shown}' at '{path.lstrip('.')}' failed to satisfy constraint: {rule}"
