"""python -m tools.chart_docs [--check]."""

import difflib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from keyturn.core.settings import Settings

CHART = Path(__file__).parents[2] / "charts" / "keyturn"
LINE = re.compile(r"( *)(?:# ?(.*)|([A-Za-z]+):.*)")


def schema(text: str) -> str:
    """Put the schema of the settings into values.schema.json, whose other lines stay as they are."""
    _, components = msgspec.json.schema_components((Settings,), ref_template="#/$defs/{name}")
    # Python's \Z is $ to all others.
    written = json.dumps(_bare(components), indent=2).replace(r"\\Z", "$").replace("\n", "\n  ")
    return re.sub(r'"\$defs": \{.*?\n  \}', lambda _: f'"$defs": {written}', text, count=1, flags=re.DOTALL)


def _bare(node: Any) -> Any:
    """Drop what only tells."""
    if not isinstance(node, dict):
        return [_bare(one) for one in node] if isinstance(node, list) else node
    kept = {key: value for key, value in node.items() if key not in ("title", "description", "default")}
    named = {name: _bare(value) for name, value in kept.pop("properties", {}).items()}
    return {key: _bare(value) for key, value in kept.items()} | ({"properties": named} if named else {})


def table(text: str) -> str:
    """Put the table of all values into the README."""
    rows = "".join(f"| `{path}` | {default} | {told} |\n" for path, default, told in values())
    head = "| value | default | meaning |\n|---|---|---|\n"
    return re.sub(
        r"(<!-- written.*?-->\n).*(<!-- end -->)", lambda m: f"{m[1]}\n{head}{rows}\n{m[2]}", text, flags=re.DOTALL
    )


def values() -> Iterator[tuple[str, str, str]]:
    """Each value that the schema knows: its path, its default, and the comment before it in values.yaml.

    What is said of a group is said of its first value, where that has no comment of its own.
    """
    text = (CHART / "values.yaml").read_text()
    leaves = json.loads((CHART / "values.schema.json").read_text())
    group, comment, path = list[str](), list[str](), list[str]()
    for line in text.splitlines():
        found = LINE.fullmatch(line)
        if found and found[2] is not None:
            comment.append(found[2])
        elif found:
            path = [*path[: len(found[1]) // 2], found[3]]
            leaf = _is_leaf(leaves, path)
            if leaf:
                yield ".".join(path), f"`{_default(yaml.safe_load(text), path)}`", " ".join(comment or group)
            group, comment = [] if leaf else comment, []


def _is_leaf(node: Any, path: list[str]) -> bool:
    for name in path:
        node = node.get("properties", {}).get(name)
        if node is None:
            return False
    return "properties" not in node


def _default(node: Any, path: list[str]) -> str:
    for name in path:
        node = node[name]
    return json.dumps(node)


def main(*arguments: str) -> int:
    stale = 0
    for name, written in (("values.schema.json", schema), ("README.md", table)):
        path = CHART / name
        before, after = path.read_text(), written(path.read_text())
        if "--check" not in arguments:
            path.write_text(after)
        elif before != after:
            stale = 1
            print("".join(difflib.unified_diff(before.splitlines(True), after.splitlines(True), name, "fresh")))  # noqa: FBT003
    return stale


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
