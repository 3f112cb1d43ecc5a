"""Writes what is generated: python -m tools.reference [--check]."""

import difflib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tools.reference import api, chart, cli, conditions, exchanges, metrics, names, schemas, settings

ROOT = Path(__file__).parents[2]
PAGES: dict[str, Callable[[], str]] = {
    "docs/reference/annotations-and-labels.md": names.page,
    "docs/reference/api.md": api.page,
    "docs/reference/cli.md": cli.page,
    "docs/reference/conditions-and-events.md": conditions.page,
    "docs/reference/helm-values.md": chart.page,
    "docs/reference/metrics.md": metrics.page,
    "docs/reference/settings.md": settings.page,
    "charts/keyturn/values.schema.json": chart.schema,
    **{f"docs/reference/schemas/{name}.json": partial(schemas.schema, name) for name in schemas.OUTPUTS},
    **{str(path.relative_to(ROOT)): partial(exchanges.page, path) for path in exchanges.pages()},
}


def main(*arguments: str) -> int:
    """Write the files; with `--check`, only show the difference and return 1 if there is one."""
    outdated = 0
    for name, generate in PAGES.items():
        path, after = ROOT / name, generate()
        if "--check" not in arguments:
            path.write_text(after)
        elif (before := path.read_text() if path.exists() else "") != after:
            outdated = 1
            old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
            sys.stdout.writelines(difflib.unified_diff(old, new, name, "generated"))
    return outdated


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
