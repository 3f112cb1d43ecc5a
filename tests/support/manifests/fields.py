"""The string fields of a TokenRequest, in the schema and in a manifest."""

from collections.abc import Iterator
from typing import Any

Location = tuple[str | int, ...]


def schema_strings(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path and schema of each string that users can choose freely: enums are left out."""
    for name, child in node.get("properties", {}).items():
        yield from schema_strings(child, f"{path}.{name}".lstrip("."))
    if isinstance(node.get("additionalProperties"), dict):
        yield from schema_strings(node["additionalProperties"], f"{path}.*")
    if "items" in node:
        yield from schema_strings(node["items"], f"{path}[]")
    if node.get("type") == "string" and "enum" not in node:
        yield path, node


def manifest_strings(node: Any, path: str = "", location: Location = ()) -> Iterator[tuple[str, Location]]:
    """Yield each string of a manifest: its path as in the schema, and its keys and indices."""
    if isinstance(node, dict):
        for name, child in node.items():
            yield from manifest_strings(child, f"{path}.{name}".lstrip("."), (*location, name))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from manifest_strings(child, f"{path}[]", (*location, index))
    elif isinstance(node, str):
        yield path, location


def with_string(node: Any, location: Location, value: str) -> Any:
    """Return a copy of a manifest with another string at a location, which may be new."""
    if not location:
        return value
    step, rest = location[0], location[1:]
    items = dict(enumerate(node)) if isinstance(node, list) else dict(node)
    items[step] = with_string(items.get(step), rest, value)
    return list(items.values()) if isinstance(node, list) else items
