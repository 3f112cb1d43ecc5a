"""kubectl keyturn status, renew, suspend, resume and events."""

import re

import click

from keyturn.api.token_request import RENEW_REQUESTED
from keyturn.cli import now
from keyturn.cli.durations import Seconds
from keyturn.cli.kubectl import COMMANDS
from keyturn.cli.kubectl.cluster import REQUESTS, Cluster, ClusterError, cluster_options
from keyturn.cli.kubectl.describe import RequestView, WatchRows, describe, table, view_request
from keyturn.cli.kubectl.output import write
from keyturn.cli.kubectl.selection import Selection, changing, reading
from keyturn.cli.terminal import echo, examples, printable

_EVENT_OBJECT = re.compile(r" tokenrequest/(\S+) ", re.IGNORECASE)


@click.command(
    help=COMMANDS["status"].summary,
    epilog=examples(
        "kubectl keyturn status                  # a table of the namespace",
        "kubectl keyturn status -A -l team=shop  # of all namespaces, by label",
        "kubectl keyturn status acme -o json",
        "kubectl keyturn status acme --watch",
    ),
)
@reading
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "wide", "name", "json", "yaml"]),
    default="text",
    show_default=True,
    help="Output format.",
)
@click.option("-w", "--watch", is_flag=True, help="Watch for changes, and show each one.")
@cluster_options
def status(cluster: Cluster, selection: Selection, output: str, *, watch: bool) -> None:
    if watch and (len(selection.names) > 1 or output in ("name", "wide")):
        raise click.UsageError("--watch needs at most one NAME, and -o text, json or yaml")
    # Read first, because a watch of an object that does not exist would wait forever.
    views = [view_request(body, now()) for body in selection.read(cluster)]
    is_single = len(selection.names) == 1
    if watch:
        _watch(cluster, selection, output, views)
    elif output == "name":
        echo(*(f"{REQUESTS}/{view.name}" for view in views))
    elif output in ("json", "yaml"):
        write(views[0] if is_single else views, output)
    elif is_single and output == "text":
        echo(*describe(views[0], now()))
    elif views:
        echo(*table(views, now(), namespaces=selection.all_namespaces, wide=output == "wide"))
    else:
        echo("No TokenRequests found in this namespace; -A lists all namespaces.", err=True)


@click.command(
    help=COMMANDS["renew"].summary,
    epilog=examples("kubectl keyturn renew acme --wait --timeout 2m", "kubectl keyturn renew -l team=shop"),
)
@changing
@click.option("--wait", is_flag=True, help="Wait for the attempt to finish; exit with 1 if it fails.")
@click.option("--timeout", type=Seconds(), default="60s", show_default=True, help="Timeout for --wait.")
@cluster_options
def renew(cluster: Cluster, selection: Selection, *, wait: bool, timeout: int) -> None:
    requests = selection.read(cluster)
    suspended = [body["metadata"]["name"] for body in requests if body["spec"].get("suspend")]
    if suspended and selection.names:
        names = " ".join(suspended)
        raise ClusterError(f"{', '.join(suspended)}: suspended; run `kubectl keyturn resume {names}` first")
    active = [body["metadata"]["name"] for body in requests if not body["spec"].get("suspend")]
    if not active:
        raise ClusterError("no TokenRequest to renew in this namespace")
    # With microseconds, because two requests within the same second must have different values.
    requested_at = now().isoformat().replace("+00:00", "Z")
    cluster.run("annotate", "--overwrite", REQUESTS, "--", *active, f"{RENEW_REQUESTED}={requested_at}")
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


@click.command(
    help=COMMANDS["suspend"].summary,
    epilog=examples("kubectl keyturn suspend acme", "kubectl keyturn suspend --all"),
)
@changing
@cluster_options
def suspend(cluster: Cluster, selection: Selection) -> None:
    _set_suspend(cluster, selection, value=True)


@click.command(help=COMMANDS["resume"].summary, epilog=examples("kubectl keyturn resume acme"))
@changing
@cluster_options
def resume(cluster: Cluster, selection: Selection) -> None:
    _set_suspend(cluster, selection, value=False)


@click.command(
    help=COMMANDS["events"].summary,
    epilog=examples("kubectl keyturn events acme", "kubectl keyturn events -A"),
)
@reading
@cluster_options
def events(cluster: Cluster, selection: Selection) -> None:
    output = cluster.run("get", "events", "--field-selector=involvedObject.kind=TokenRequest",
                         "--sort-by=.metadata.creationTimestamp",
                         *(["--all-namespaces"] if selection.all_namespaces else []))  # fmt: skip
    header, *rows = output.splitlines() or [""]
    if selection.names or selection.selector:
        # kubectl selects Events by one name only, and not by the labels of the object.
        names = {body["metadata"]["name"] for body in selection.read(cluster)}
        rows = [row for row in rows if (match := _EVENT_OBJECT.search(row)) and match[1] in names]
    if rows:
        echo(header, *rows)
    else:
        echo("No Events found; the API server keeps them for an hour.", err=True)


def _set_suspend(cluster: Cluster, selection: Selection, *, value: bool) -> None:
    """Set spec.suspend. If GitOps manages the TokenRequest, its next sync reverts the change."""
    bodies = selection.read(cluster)
    if not bodies:
        raise ClusterError("no such TokenRequests in this namespace")
    for body in bodies:
        name, done = body["metadata"]["name"], "suspended" if value else "resumed"
        if bool(body["spec"].get("suspend")) == value:
            echo(f"{name}: already {done}")
            continue
        patch = f'--patch={{"spec":{{"suspend":{str(value).lower()}}}}}'
        cluster.run("patch", REQUESTS, "--type=merge", patch, "--", name)
        echo(f"{name}: {done}")


def _watch(cluster: Cluster, selection: Selection, output: str, views: list[RequestView]) -> None:
    """Show each change until Ctrl-C, in columns that are wide enough for the TokenRequests that exist now."""
    flags = [f"--field-selector=metadata.name={name}" for name in selection.names] or selection.flags
    rows = WatchRows(views, now(), namespaces=selection.all_namespaces)
    if output == "text" and not selection.names:
        echo(rows.header)
    for changed in cluster.watch(REQUESTS, *flags):
        view = view_request(changed, now())
        if output != "text":
            write(view, output, in_stream=True)
        elif selection.names:
            echo(*describe(view, now()), "")
        else:
            echo(rows.row(view, now()))
