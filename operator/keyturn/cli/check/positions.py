"""The positions of fields in a file."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

_MERGE_TAG = "tag:yaml.org,2002:merge"


class Position(NamedTuple):
    """Where a field is: line and column of its name, or of the item of a list, from 1. `text` is a scalar's source."""

    line: int
    column: int
    text: str = ""


def locate(root: Any, path: str) -> Position:
    """Return the position of a path such as spec.exchanges[0].oauthToken, or that of the innermost part that exists."""
    node, start, rest = root, root.start_mark, path
    while rest:
        step = _step(node, rest)
        if step is None:
            break
        start, node, rest = step
    is_scalar = isinstance(node, yaml.ScalarNode)
    return Position(start.line + 1, start.column + 1, node.value if is_scalar and not rest else "")


def _step(node: yaml.Node, path: str) -> tuple[yaml.Mark, yaml.Node, str] | None:
    """Return the position and the node of the first part of a path, and the rest of the path."""
    if isinstance(node, yaml.SequenceNode) and path.startswith("["):
        index, _, rest = path[1:].partition("]")
        items = node.value
        return (items[int(index)].start_mark, items[int(index)], rest) if int(index) < len(items) else None
    # The name of an annotation may contain dots: the longest key that the path starts with.
    name = path.removeprefix(".")
    entries = [
        (key, value)
        for key, value in _entries(node)
        if name.startswith(key.value) and name[len(key.value) :][:1] in ("", ".", "[")
    ]
    if not entries:
        return None
    key, value = max(entries, key=lambda entry: len(entry[0].value))
    return key.start_mark, value, name[len(key.value) :]


def _entries(node: yaml.Node) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    """Yield the entries of a mapping, those that << merges last."""
    entries = node.value if isinstance(node, yaml.MappingNode) else []
    yield from ((key, value) for key, value in entries if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE_TAG)
    for key, value in entries:
        if key.tag == _MERGE_TAG:
            for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                yield from _entries(merged)
