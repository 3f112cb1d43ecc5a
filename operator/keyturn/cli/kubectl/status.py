"""kubectl keyturn status."""

from collections.abc import Callable, Iterable
from typing import Any

import click
import msgspec

from keyturn.cli import now
from keyturn.cli.kubectl import COMMANDS
from keyturn.cli.kubectl.cluster import REQUESTS, Cluster, Object, cluster_options, completing
from keyturn.cli.kubectl.describe import RequestView, describe, table, table_row, view_request


@click.command(help=COMMANDS["status"].summary)
@click.argument("name", required=False, shell_complete=completing(REQUESTS))
@click.option("-A", "--all-namespaces", is_flag=True, help="List TokenRequests in all namespaces.")
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
@click.option("-w", "--watch", is_flag=True, help="Keep watching and show each change.")
@cluster_options
def status(cluster: Cluster, name: str | None, output: str, *, all_namespaces: bool, watch: bool) -> None:
    if name and all_namespaces:
        raise click.UsageError("NAME and --all-namespaces cannot be combined")
    # A missing object is reported before a watch of it would wait forever.
    request: Any = cluster.get(REQUESTS, name) if name else None
    selection = ["--all-namespaces"] if all_namespaces else [f"--field-selector=metadata.name={name}"] if name else []
    if watch:
        _watch(cluster.watch(REQUESTS, *selection), output, as_rows=name is None)
    elif name:
        _show(view_request(request, now()), output)
    else:
        _show_all(cluster.list_objects(REQUESTS, *selection), output, namespaces=all_namespaces)


def _watch(requests: Iterable[Object], output: str, *, as_rows: bool) -> None:
    for request in requests:
        at = now()
        view = view_request(request, at)
        if output == "text" and as_rows:
            click.echo("   ".join(table_row(view, at)))
        else:
            _show(view, output, in_stream=True)


def _show(view: RequestView, output: str, *, in_stream: bool = False) -> None:
    if output == "text":
        click.echo("\n".join(describe(view, now())) + ("\n" if in_stream else ""))
    else:
        _WRITERS[output](msgspec.to_builtins(view), in_stream)


def _show_all(requests: list[Object], output: str, *, namespaces: bool) -> None:
    at = now()
    views = [view_request(request, at) for request in requests]
    if output != "text":
        _WRITERS[output](msgspec.to_builtins(views), False)  # noqa: FBT003 - the signature of the writers
    elif views:
        click.echo("\n".join(table(views, at, namespaces=namespaces)))
    else:
        click.echo("No TokenRequests found in this namespace; -A lists all namespaces.", err=True)


def _write_json(value: object, in_stream: bool) -> None:  # noqa: FBT001 - called by position
    text = msgspec.json.encode(value)
    click.echo(text if in_stream else msgspec.json.format(text, indent=2))


def _write_yaml(value: object, in_stream: bool) -> None:  # noqa: FBT001
    import yaml  # noqa: PLC0415 - the other outputs do not need it, and importing it takes time

    click.echo(yaml.safe_dump(value, sort_keys=False, width=120, explicit_start=in_stream), nl=False)


_WRITERS: dict[str, Callable[[object, bool], None]] = {"json": _write_json, "yaml": _write_yaml}
