"""Output for a terminal, which text from the cluster or from a file must not control."""

import json
import os
import sys
from typing import Literal, Self, TextIO

import click

Color = Literal["red", "yellow", ""]


class ColoredLine(str):
    """A line that `echo` colors on a terminal. Everywhere else, it is plain text."""

    __slots__ = ("color",)
    color: Color

    def __new__(cls, text: str, color: Color) -> Self:
        """Return the text with a color; without one if it is empty."""
        line = super().__new__(cls, text)
        line.color = color
        return line


def printable(text: str) -> str:
    """Escape characters that are not printable, such as ESC and bidirectional overrides, in the way that JSON does.

    A line break is escaped too, because it could forge a line of the output or of the log.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else json.dumps(character)[1:-1] for character in text)


def echo(*lines: str, err: bool = False) -> None:
    """Print lines to stdout or stderr, each of them escaped. JSON stays valid: only its strings can need escapes."""
    has_color = _has_color(sys.stderr if err else sys.stdout)
    texts = [
        click.style(printable(line), fg=line.color)
        if has_color and isinstance(line, ColoredLine) and line.color
        else printable(line)
        for line in lines
    ]
    click.echo("\n".join(texts), err=err)  # noqa: TID251 - escaped


def _has_color(stream: TextIO | None) -> bool:
    """Whether to print colors: to a terminal that has some, and without NO_COLOR (https://no-color.org)."""
    # None if the process was started with the stream closed.
    return (
        stream is not None and stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def examples(*lines: str) -> str:
    """Return the end of a help text: examples, which click does not wrap."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))
