"""Output for a terminal, which text from the cluster or from a file must not control."""

import json

import click


def printable(text: str) -> str:
    """Escape characters that are not printable, such as ESC and bidirectional overrides, in the way that JSON does.

    A line break is escaped too, because it could forge a line of the output or of the log.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else json.dumps(character)[1:-1] for character in text)


def echo(*lines: str, err: bool = False) -> None:
    """Print lines to stdout or stderr, each of them escaped. JSON stays valid: only its strings can need escapes."""
    click.echo("\n".join(map(printable, lines)), err=err)  # noqa: TID251 - escaped


def examples(*lines: str) -> str:
    """Return the end of a help text: examples, which click does not wrap."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))
