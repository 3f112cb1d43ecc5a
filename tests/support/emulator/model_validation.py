"""botocore's model as a law: botocore itself checks no maximum, no pattern and no enum."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

# How a pattern of AWS says letters, separators and digits, and how Python's does (`_` is in all those patterns).
_UNICODE_CLASSES = r"\p{L}\p{Z}\p{N}", r"\w \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
Limits = Mapping[str, dict[str, Any]]
_TYPES: dict[str, Any] = {
    "structure": dict, "list": list, "map": dict, "string": str, "integer": int, "long": int, "boolean": bool,
    "timestamp": datetime,
}  # fmt: skip


def problems(shape: Shape, value: Any, path: str, stricter: Limits) -> Iterator[str]:
    """Tell each place where the value breaks the shape; `stricter` has more limits, by the shape's name."""
    # Exactly this type: a bool is no integer.
    if type(value) is not _TYPES[shape.type_name]:
        yield _problem(shape, value, path, f"Member must be a {shape.type_name}")
        return
    limits = {**shape.metadata, **stricter.get(shape.name, {})}
    yield from (_problem(shape, value, path, rule) for rule in _broken(limits, value))
    if isinstance(shape, StructureShape):
        yield from _members(shape, value, path, stricter)
    for inner, item, at in _inside(shape, value):
        yield from problems(inner, item, f"{path}.{at}", stricter)


def _inside(shape: Shape, value: Any) -> Iterator[tuple[Shape, Any, str]]:
    """Tell what a list or a map holds."""
    if isinstance(shape, ListShape):
        yield from ((shape.member, item, f"{index}.member") for index, item in enumerate(value, 1))
    if isinstance(shape, MapShape):
        yield from ((shape.key, name, "key") for name in value)
        yield from ((shape.value, item, name) for name, item in value.items())


def _members(shape: StructureShape, value: dict[str, Any], path: str, stricter: Limits) -> Iterator[str]:
    for name in shape.required_members:
        if name not in value:
            yield _problem(shape, None, f"{path}.{name}", "Member must not be null")
    for name, item in value.items():
        if name in shape.members:
            yield from problems(shape.members[name], item, f"{path}.{name}", stricter)
        else:
            yield _problem(shape, None, f"{path}.{name}", "Member is unknown")


def _broken(limits: dict[str, Any], value: Any) -> Iterator[str]:
    size = value if isinstance(value, int) else len(value) if isinstance(value, str | list | dict) else 0
    if "min" in limits and size < limits["min"]:
        yield f"Member must have value or length greater than or equal to {limits['min']}"
    if "max" in limits and size > limits["max"]:
        yield f"Member must have value or length less than or equal to {limits['max']}"
    if "pattern" in limits and not re.fullmatch(limits["pattern"].replace(*_UNICODE_CLASSES), value):
        yield f"Member must satisfy regular expression pattern: {limits['pattern']}"
    if "enum" in limits and value not in limits["enum"]:
        yield f"Member must satisfy enum value set: {limits['enum']}"


def _problem(shape: Shape, value: Any, path: str, rule: str) -> str:
    # AWS repeats the value, so that a client which copies messages into its logs is found out here.
    shown = "***" if shape.metadata.get("sensitive") else value
    return f"Value '{shown}' at '{path.lstrip('.')}' failed to satisfy constraint: {rule}"
