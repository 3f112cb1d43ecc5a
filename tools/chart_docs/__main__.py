"""Generates the chart's README table and settings schema: python -m tools.chart_docs [--check]."""

import difflib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from keyturn.api.base import EXPECTATION
from keyturn.core.settings import Settings

CHART = Path(__file__).parents[2] / "charts" / "keyturn"
_REMOVED = ("title", "description", "default", EXPECTATION)
LINE = re.compile(r"( *)(?:# ?(.*)|([A-Za-z]+):.*)")


def schema(text: str) -> str:
    """Insert the schema of the settings into values.schema.json."""
    _, components = msgspec.json.schema_components((Settings,), ref_template="#/$defs/{name}")
    # JSON Schema writes Python's \Z as $.
    written = json.dumps(_bare(components), indent=2).replace(r"\\Z", "$").replace("\n", "\n  ")
    return re.sub(r'"\$defs": \{.*?\n  \}', lambda _: f'"$defs": {written}', text, count=1, flags=re.DOTALL)


def _bare(node: Any) -> Any:
    """Remove titles, descriptions, defaults and expectations."""
    if not isinstance(node, dict):
        return [_bare(one) for one in node] if isinstance(node, list) else node
    kept = {key: value for key, value in node.items() if key not in _REMOVED}
    named = {name: _bare(value) for name, value in kept.pop("properties", {}).items()}
    return {key: _bare(value) for key, value in kept.items()} | ({"properties": named} if named else {})


def table(text: str) -> str:
    """Insert the table of all values into the README."""
    rows = "".join(f"| `{path}` | {default} | {meaning} |\n" for path, default, meaning in values())
    head = "| value | default | meaning |\n|---|---|---|\n"
    return re.sub(
        r"(<!-- written.*?-->\n).*(<!-- end -->)", lambda m: f"{m[1]}\n{head}{rows}\n{m[2]}", text, flags=re.DOTALL
    )


def values() -> Iterator[tuple[str, str, str]]:
    """Yield the path, the default and the comment of each value in the schema.

    The first value of a group without a comment of its own gets the comment of the group.
    """
    text = (CHART / "values.yaml").read_text()
    leaves = json.loads((CHART / "values.schema.json").read_text())
    group, comment, path = list[str](), list[str](), list[str]()
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        if match and match[2] is not None:
            comment.append(match[2])
        elif match:
            path = [*path[: len(match[1]) // 2], match[3]]
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
