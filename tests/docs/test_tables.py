"""Tables in pages have a header and the same number of cells in each row; otherwise they are shown as text."""

import re
from itertools import groupby
from pathlib import Path

import pytest

from tests.support.cluster.page import ROOT

_EXCLUDED = {".venv", "node_modules", "build", ".git", "notes"}
PAGES = [path for path in sorted(ROOT.rglob("*.md")) if not _EXCLUDED & set(path.relative_to(ROOT).parts)]
_CODE = re.compile(r"^( *)```.*?^ *```", re.DOTALL | re.MULTILINE)


def broken_tables(text: str) -> list[str]:
    """Return the first row of each table without a header, or with a row that has another number of cells."""
    lines = (line.strip() for line in _CODE.sub("", text).splitlines())
    tables = [list(rows) for is_row, rows in groupby(lines, lambda line: line.startswith("|")) if is_row]
    return [rows[0] for rows in tables if not _is_table(rows)]


def _is_table(rows: list[str]) -> bool:
    cells = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    return len(rows) > 1 and re.fullmatch(r"[-:| ]+", rows[1]) is not None and len(cells) == 1


@pytest.mark.parametrize("page", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_tables_of_a_page_are_complete(page: Path) -> None:
    assert broken_tables(page.read_text()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("| a |\n|---|\n| b \\| c |\n", [], id="a table"),
        pytest.param("| a |\n\n|---|\n| b |\n", ["| a |", "|---|"], id="an empty line after the header"),
        pytest.param("| a |\n|---|\n| b |\n\n| c |\n", ["| c |"], id="an empty line between rows"),
        pytest.param("| a |\n|---|\n| b | c |\n", ["| a |"], id="too many cells"),
        pytest.param("```text\n| a |\n```\n", [], id="code"),
    ],
)
def test_broken_tables(text: str, expected: list[str]) -> None:
    assert broken_tables(text) == expected
