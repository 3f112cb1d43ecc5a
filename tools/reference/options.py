"""Tables of a command's options."""

from collections.abc import Iterator

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
    limits = option.type if isinstance(option.type, click.IntRange) else None
    metavar = "" if option.is_flag else " INTEGER" if limits else f" {option.make_metavar(context)}"
    names = [*sorted(option.opts, key=len), *option.secondary_opts]
    yield ", ".join(code(name) for name in [*names[:-1], f"{names[-1]}{metavar}"])
    if has_variables:
        variables = [option.envvar] if isinstance(option.envvar, str) else option.envvar or ()
        yield ", ".join(map(code, variables))
    yield "required" if option.required else code(_default(option))
    yield plain(option.help or "") + (f" {limits.min} to {limits.max}." if limits else "")


def _default(option: click.Option) -> str:
    default = option.default
    if option.secondary_opts:
        return (option.opts if default else option.secondary_opts)[0]
    return str(default) if isinstance(default, str | int) and not isinstance(default, bool) else ""
