"""kubectl keyturn status, renew, suspend, resume and events."""

from collections.abc import Callable

import click
import msgspec

from keyturn.api.token_request import RENEW_REQUESTED
from keyturn.cli import now
from keyturn.cli.kubectl import COMMANDS
from keyturn.cli.kubectl.cluster import REQUESTS, Cluster, ClusterError, cluster_options, completing
from keyturn.cli.kubectl.describe import RequestView, describe, table, table_row, view_request
from keyturn.cli.terminal import echo, printable


@click.command(help=COMMANDS["status"].summary)
@click.argument("name", required=False, shell_complete=completing(REQUESTS))
@click.option("-A", "--all-namespaces", is_flag=True, help="List TokenRequests in all namespaces.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "yaml"]),
    default="text",
    show_default=True,
    help="Output format.",
)
@click.option("-w", "--watch", is_flag=True, help="Continue to watch, and show each change.")
@cluster_options
def status(cluster: Cluster, name: str | None, output: str, *, all_namespaces: bool, watch: bool) -> None:
    if name and all_namespaces:
        raise click.UsageError("NAME and --all-namespaces cannot be combined")
    # Read first, because a watch of an object that does not exist would wait forever.
    request = cluster.get(REQUESTS, name) if name else None
    selection = ["--all-namespaces"] if all_namespaces else [f"--field-selector=metadata.name={name}"] if name else []
    if watch:
        for changed in cluster.watch(REQUESTS, *selection):
            view = view_request(changed, now())
            if output == "text" and not name:
                echo("   ".join(table_row(view, now())))
            else:
                _show(view, output, in_stream=True)
    elif request:
        _show(view_request(request, now()), output)
    else:
        views = [view_request(body, now()) for body in cluster.list_objects(REQUESTS, *selection)]
        if output != "text":
            _write(views, output)
        elif views:
            echo(*table(views, now(), namespaces=all_namespaces))
        else:
            echo("No TokenRequests found in this namespace; -A lists all namespaces.", err=True)


@click.command(help=COMMANDS["renew"].summary)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completing(REQUESTS))
@click.option("--all", "select_all", is_flag=True, help="Renew all TokenRequests in the namespace.")
@click.option("--wait", is_flag=True, help="Wait for the attempt to finish; exit with 1 if it fails.")
@click.option("--timeout", type=click.IntRange(1), default=60, show_default=True, help="Timeout for --wait in seconds.")
@cluster_options
def renew(cluster: Cluster, names: tuple[str, ...], *, select_all: bool, wait: bool, timeout: int) -> None:
    if select_all == bool(names):
        raise click.UsageError("specify either NAMEs or --all")
    requests = cluster.list_objects(REQUESTS) if select_all else [cluster.get(REQUESTS, name) for name in names]
    suspended = [body["metadata"]["name"] for body in requests if body["spec"].get("suspend")]
    if suspended and not select_all:
        raise ClusterError(f"{', '.join(suspended)}: suspended; set spec.suspend to false to renew")
    active = [body["metadata"]["name"] for body in requests if not body["spec"].get("suspend")]
    if not active:
        raise ClusterError("no TokenRequest to renew in this namespace")
    # With microseconds, because two requests within the same second must have different values.
    requested_at = now().isoformat().replace("+00:00", "Z")
    cluster.run("annotate", REQUESTS, *active, "--overwrite", f"{RENEW_REQUESTED}={requested_at}")
    if not wait:
        echo(f"renewal requested: {', '.join(active)}")
        return
    cluster.run("wait", f"--for=jsonpath={{.status.lastHandledRenewRequest}}={requested_at}", f"--timeout={timeout}s",
                *(f"{REQUESTS}/{name}" for name in active))  # fmt: skip
    failures = []
    for view in [view_request(cluster.get(REQUESTS, name), now()) for name in active]:
        if view.last_error:
            failures.append(printable(f"{view.name}: {view.last_error}"))
        else:
            echo(f"{view.name}: renewed, valid until {view.status.expiration_time}")
    if failures:
        raise ClusterError("\n".join(failures))


def _selecting(command: Callable[..., None]) -> Callable[..., None]:
    names = click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completing(REQUESTS))
    select_all = click.option("--all", "select_all", is_flag=True, help="Select all TokenRequests in the namespace.")
    return names(select_all(cluster_options(command)))


@click.command(help=COMMANDS["suspend"].summary)
@_selecting
def suspend(cluster: Cluster, names: tuple[str, ...], *, select_all: bool) -> None:
    _set_suspend(cluster, names, select_all=select_all, value=True)


@click.command(help=COMMANDS["resume"].summary)
@_selecting
def resume(cluster: Cluster, names: tuple[str, ...], *, select_all: bool) -> None:
    _set_suspend(cluster, names, select_all=select_all, value=False)


@click.command(help=COMMANDS["events"].summary)
@click.argument("name", required=False, shell_complete=completing(REQUESTS))
@click.option("-A", "--all-namespaces", is_flag=True, help="Show the Events of TokenRequests in all namespaces.")
@cluster_options
def events(cluster: Cluster, name: str | None, *, all_namespaces: bool) -> None:
    if name and all_namespaces:
        raise click.UsageError("NAME and --all-namespaces cannot be combined")
    selector = "involvedObject.kind=TokenRequest"
    if name:
        cluster.get(REQUESTS, name)  # suggests a similar name
        selector += f",involvedObject.name={name}"
    output = cluster.run("get", "events", f"--field-selector={selector}", "--sort-by=.metadata.creationTimestamp",
                         *(["--all-namespaces"] if all_namespaces else []))  # fmt: skip
    echo(*(output or "No Events found; the API server keeps them for an hour.").removesuffix("\n").split("\n"))


def _set_suspend(cluster: Cluster, names: tuple[str, ...], *, select_all: bool, value: bool) -> None:
    """Set spec.suspend. If GitOps manages the TokenRequest, its next sync reverts the change."""
    if select_all == bool(names):
        raise click.UsageError("specify either NAMEs or --all")
    bodies = cluster.list_objects(REQUESTS) if select_all else [cluster.get(REQUESTS, name) for name in names]
    if not bodies:
        raise ClusterError("no TokenRequests in this namespace")
    for body in bodies:
        name, done = body["metadata"]["name"], "suspended" if value else "resumed"
        if bool(body["spec"].get("suspend")) == value:
            echo(f"{name}: already {done}")
            continue
        cluster.run("patch", REQUESTS, name, "--type=merge", f'--patch={{"spec":{{"suspend":{str(value).lower()}}}}}')
        echo(f"{name}: {done}")


def _show(view: RequestView, output: str, *, in_stream: bool = False) -> None:
    if output == "text":
        echo(*describe(view, now()), *([""] if in_stream else []))
    else:
        _write(view, output, in_stream=in_stream)


def _write(value: RequestView | list[RequestView], output: str, *, in_stream: bool = False) -> None:
    """Write views as JSON or YAML. In a stream, JSON is one line and each YAML document starts with `---`."""
    if output == "yaml":
        import yaml  # noqa: PLC0415 - the other outputs do not need it, and importing it takes time

        fields = msgspec.to_builtins(value)
        text = yaml.safe_dump(fields, sort_keys=False, width=120, explicit_start=in_stream).removesuffix("\n")
    else:
        text = msgspec.json.format(msgspec.json.encode(value).decode(), indent=-1 if in_stream else 2)
    echo(*text.split("\n"))
