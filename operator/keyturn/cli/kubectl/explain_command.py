"""kubectl keyturn explain: shows the troubleshooting entry of a reason, without a cluster or a network."""

import difflib
import re
from importlib import resources

import click
from click.shell_completion import CompletionItem

from keyturn.cli.kubectl import COMMANDS
from keyturn.cli.terminal import echo, examples

_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")


def _complete(_: click.Context, __: click.Parameter, prefix: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in _entries() if name.lower().startswith(prefix.lower())]


@click.command(
    help=COMMANDS["explain"].summary,
    epilog=examples(
        "kubectl keyturn explain               # all reasons and alerts", "kubectl keyturn explain SourceInvalid"
    ),
)
@click.argument("reason", required=False, shell_complete=_complete)
def explain(reason: str | None) -> None:
    entries = _entries()
    if reason is None:
        echo(*entries)
        return
    names = {name.lower(): name for name in entries}
    if reason.lower() not in names:
        close = difflib.get_close_matches(reason.lower(), names, cutoff=0.5)
        advice = f"did you mean {names[close[0]]}?" if close else "without a reason, the command lists all"
        raise click.ClickException(f"there is no reason or alert {reason}; {advice}")
    name = names[reason.lower()]
    echo(name, "", *entries[name].split("\n"))


def _entries() -> dict[str, str]:
    """Return the entries of docs/operations/troubleshooting.md by reason. `make generate` copies the page."""
    page = resources.files("keyturn.cli.kubectl").joinpath("troubleshooting.md").read_text(encoding="utf-8")
    _, *sections = re.split(r"(?m)^## ", page)
    parts = (section.partition("\n") for section in sections)
    # A heading of several words, such as that of a metric or of an alert, is not a reason.
    return {name: _plain(text) for name, _, text in parts if re.fullmatch(r"[A-Z][A-Za-z]+", name)}


def _plain(text: str) -> str:
    """Return Markdown as text for a terminal: without link targets, emphasis and fences."""
    lines = [line for line in _LINK.sub(r"\1", text).strip().split("\n") if not line.startswith("```")]
    return "\n".join(re.sub(r"\*\*([^*]+)\*\*|(?<!\w)\*([^*\s][^*]*)\*(?!\w)", r"\1\2", line) for line in lines)
