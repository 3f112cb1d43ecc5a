"""The string fields of a TokenRequest, in the schema and in a manifest."""

from collections.abc import Iterator
from typing import Any

Place = tuple[str | int, ...]


def texts_of_schema(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path and schema of each string that users can choose freely: enums are left out."""
    for name, child in node.get("properties", {}).items():
        yield from texts_of_schema(child, f"{path}.{name}".lstrip("."))
    if isinstance(node.get("additionalProperties"), dict):
        yield from texts_of_schema(node["additionalProperties"], f"{path}.*")
    if "items" in node:
        yield from texts_of_schema(node["items"], f"{path}[]")
    if node.get("type") == "string" and "enum" not in node:
        yield path, node


def texts_of(node: Any, path: str = "", place: Place = ()) -> Iterator[tuple[str, Place]]:
    """Yield each string of a manifest: its path as in the schema, and its keys and indices."""
    if isinstance(node, dict):
        for name, child in node.items():
            yield from texts_of(child, f"{path}.{name}".lstrip("."), (*place, name))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from texts_of(child, f"{path}[]", (*place, index))
    elif isinstance(node, str):
        yield path, place


def replaced(node: Any, place: Place, value: str) -> Any:
    """Return a copy of a manifest with another string at a place, which may be new."""
    if not place:
        return value
    step, rest = place[0], place[1:]
    items = dict(enumerate(node)) if isinstance(node, list) else dict(node)
    items[step] = replaced(items.get(step), rest, value)
    return list(items.values()) if isinstance(node, list) else items
