"""Parts of a page in Markdown."""

from collections.abc import Iterable, Sequence


def plain(text: str) -> str:
    """Return text on one line that may be part of a table. Text in backticks is code, which has no entities."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    return "`".join(part if index % 2 else part.replace("<", "&lt;") for index, part in enumerate(parts))


def code(text: object) -> str:
    """Return text as code that may be part of a table; empty if there is none."""
    return f"`{text}`".replace("|", "\\|") if text not in ("", None) else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; empty if it has no rows."""
    lines = ["| " + " | ".join(cells) + " |\n" for cells in rows]
    return "".join((f"| {' | '.join(head)} |\n", "|---" * len(head), "|\n", *lines)) if lines else ""


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return "".join(char for char in heading.lower().replace(" ", "-") if char.isalnum() or char in "-_")
