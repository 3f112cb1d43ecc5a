"""kubectl keyturn status."""

from collections.abc import Callable, Iterable
from typing import Any

import click
import msgspec

from keyturn.cli.clock import now
from keyturn.cli.kubectl import COMMANDS
from keyturn.cli.kubectl.cluster import REQUESTS, Body, Cluster, cluster_options, completing
from keyturn.cli.kubectl.describe import Told, cells, lines, table, tell


@click.command(help=COMMANDS["status"])
@click.argument("name", required=False, shell_complete=completing(REQUESTS))
@click.option("-A", "--all-namespaces", is_flag=True, help="Of all namespaces.")
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
@click.option("-w", "--watch", is_flag=True, help="Go on, and show each change, until Ctrl-C.")
@cluster_options
def status(cluster: Cluster, name: str | None, output: str, *, all_namespaces: bool, watch: bool) -> None:
    """Show how TokenRequests are."""
    if name and all_namespaces:
        raise click.UsageError("give a NAME or --all-namespaces")
    more = ["--all-namespaces"] if all_namespaces else [f"--field-selector=metadata.name={name}"] if name else []
    if name:
        found: Any = cluster.get(REQUESTS, name)
    if watch:
        _watch(cluster.watch(REQUESTS, *more), output, one=name is not None)
    elif name:
        _show(tell(found, now()), output)
    else:
        _show_all(cluster.find(REQUESTS, *more), output, namespaces=all_namespaces)


def _watch(bodies: Iterable[Body], output: str, *, one: bool) -> None:
    for body in bodies:
        at = now()
        told = tell(body, at)
        if output == "text" and not one:
            click.echo("   ".join(cells(told, at)))
        else:
            _show(told, output, apart=True)


def _show(told: Told, output: str, *, apart: bool = False) -> None:
    if output == "text":
        click.echo("\n".join(lines(told, now())) + ("\n" if apart else ""))
    else:
        _WRITE[output](msgspec.to_builtins(told), apart)


def _show_all(bodies: list[Body], output: str, *, namespaces: bool) -> None:
    at = now()
    requests = [tell(body, at) for body in bodies]
    if output != "text":
        _WRITE[output](msgspec.to_builtins(requests), False)  # noqa: FBT003 - the writers' own shape
    elif requests:
        click.echo("\n".join(table(requests, at, namespaces=namespaces)))
    else:
        click.echo("no TokenRequests here; -A looks in all namespaces", err=True)


def _json(value: object, apart: bool) -> None:  # noqa: FBT001 - one line each, where there are many
    text = msgspec.json.encode(value)
    click.echo(text if apart else msgspec.json.format(text, indent=2))


def _yaml(value: object, apart: bool) -> None:  # noqa: FBT001
    import yaml  # noqa: PLC0415 - what nobody asked for must not cost its start

    click.echo(yaml.safe_dump(value, sort_keys=False, width=120, explicit_start=apart), nl=False)


_WRITE: dict[str, Callable[[object, bool], None]] = {"json": _json, "yaml": _yaml}
