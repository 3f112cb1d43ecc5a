"""The fields of a TokenRequest that hold text: where they are in the schema, and in a manifest."""

from collections.abc import Iterator
from typing import Any

Place = tuple[str | int, ...]


def texts_of_schema(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Name every text that the schema lets a user write, with its part of the schema; enums are none."""
    for name, child in node.get("properties", {}).items():
        yield from texts_of_schema(child, f"{path}.{name}".lstrip("."))
    if isinstance(node.get("additionalProperties"), dict):
        yield from texts_of_schema(node["additionalProperties"], f"{path}.*")
    if "items" in node:
        yield from texts_of_schema(node["items"], f"{path}[]")
    if node.get("type") == "string" and "enum" not in node:
        yield path, node


def texts_of(node: Any, path: str = "", place: Place = ()) -> Iterator[tuple[str, Place]]:
    """Name every text in a manifest as the schema does, with the way to it."""
    if isinstance(node, dict):
        for name, child in node.items():
            yield from texts_of(child, f"{path}.{name}".lstrip("."), (*place, name))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from texts_of(child, f"{path}[]", (*place, index))
    elif isinstance(node, str):
        yield path, place


def replaced(node: Any, place: Place, value: str) -> Any:
    """Copy a manifest with another text at a place, whether there was one or not."""
    if not place:
        return value
    step, rest = place[0], place[1:]
    items = dict(enumerate(node)) if isinstance(node, list) else dict(node)
    items[step] = replaced(items.get(step), rest, value)
    return list(items.values()) if isinstance(node, list) else items
