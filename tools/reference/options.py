"""Tables of a command's options."""

from collections.abc import Iterator
from typing import Any

import click

from tools.reference.markdown import code, plain, table

_EVERYWHERE = ("--help", "--version")


def options_table(context: click.Context, omitted: click.Command | None = None) -> str:
    """Return the options of a command without those of `omitted`, with their environment variables if there are any."""
    names = {*_EVERYWHERE, *(name for param in (omitted.params if omitted else ()) for name in param.opts)}
    params = [param for param in context.command.params if not names.intersection(param.opts)]
    options = [param for param in params if isinstance(param, click.Option)]
    has_variables = any(option.envvar for option in options)
    head = ("option", *(["environment variable"] if has_variables else []), "default", "description")
    return table(head, (tuple(_cells(option, context, has_variables=has_variables)) for option in options))


def _cells(option: click.Option, context: click.Context, *, has_variables: bool) -> Iterator[str]:
    kind = option.type
    # No `|` in code: GitHub and Python-Markdown disagree on how to escape it in a table.
    metavars = {click.IntRange: "INTEGER", click.Choice: "VALUE"}
    metavar = "" if option.is_flag else f" {metavars.get(type(kind)) or option.make_metavar(context)}"
    names = [*sorted(option.opts, key=len), *option.secondary_opts]
    yield ", ".join(code(name) for name in [*names[:-1], f"{names[-1]}{metavar}"])
    if has_variables:
        variables = [option.envvar] if isinstance(option.envvar, str) else option.envvar or ()
        yield ", ".join(map(code, variables))
    yield "required" if option.required else code(_default(option))
    yield " ".join((plain(option.help or ""), *_allowed(kind)))


def _allowed(kind: click.ParamType[Any]) -> Iterator[str]:
    if isinstance(kind, click.IntRange):
        yield f"{kind.min} to {kind.max}."
    if isinstance(kind, click.Choice):
        yield f"One of {', '.join(map(code, kind.choices))}."


def _default(option: click.Option) -> str:
    default = option.default
    if option.secondary_opts:
        return (option.opts if default else option.secondary_opts)[0]
    return str(default) if isinstance(default, str | int) and not isinstance(default, bool) else ""
