"""kubectl keyturn inspect and forget."""

import json
from datetime import timedelta

import click

from keyturn.cli import now
from keyturn.cli.kubectl import COMMANDS
from keyturn.cli.kubectl.cluster import Cluster, ClusterError, cluster_options, completing
from keyturn.cli.kubectl.describe import row
from keyturn.cli.kubectl.secret_view import describe, describe_family, read_secret
from keyturn.cli.terminal import echo, examples
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import unwrap
from keyturn.core.token_family import TokenFamily, token_fingerprint

_INSPECT_HELP = """

It shows who wrote the Secret, and whether someone has edited it since. For a token Secret, it shows whether the token
is the live one, and whether a process is consuming it.
"""
_FORGET_HELP = """

Use this command if the newest token cannot be restored to the token Secret (reason StaleTokenRestored). The deleted
token stays valid at the issuer. Before it asks for confirmation, the command shows whether the token in the source
Secret has been consumed. To use a new token, store it in the source Secret; you need not delete the token Secret.
"""


@click.command(help=COMMANDS["inspect"].summary + _INSPECT_HELP, epilog=examples("kubectl keyturn inspect acme-aws"))
@click.argument("secret", shell_complete=completing("secret"))
@cluster_options
def inspect(cluster: Cluster, secret: str) -> None:
    echo(*describe(read_secret(cluster, secret), now()))


@click.command(
    help=COMMANDS["forget"].summary + _FORGET_HELP, epilog=examples("kubectl keyturn forget acme-license-keyturn")
)
@click.argument("secret", shell_complete=completing("secret"))
@click.option("-y", "--yes", is_flag=True, help="Delete without confirmation.")
@cluster_options
def forget(cluster: Cluster, secret: str, *, yes: bool) -> None:
    view = read_secret(cluster, secret)
    family = view.family
    if family is None:
        raise ClusterError(f"Secret {secret} is not a Keyturn token Secret; use kubectl delete secret")
    echo(f"Token Secret {view.namespace}/{secret}", *describe_family(view, family, now()))
    source, _, key = family.source_id.partition("/")
    echo(row("Effect", f"the stored token is deleted but stays valid at the issuer; then Secret {source} is used"))
    try:
        value = read_secret(cluster, source).data.get(key, b"").decode(errors="replace")
        fingerprint = token_fingerprint(unwrap(value, "the token"), view.namespace, view.name)
    except (ClusterError, RefusedError):
        fingerprint = None
    echo(row("", forget_effect(fingerprint, family, source)))
    intent = family.intent
    if intent and now() < intent.start + timedelta(seconds=intent.give_up_seconds):
        raise ClusterError(f"{intent.holder} is using the token now and would recreate the Secret; retry in a minute")
    if not yes:
        click.confirm("Delete it?", abort=True)
    # Delete only the version that was shown: the operator may have written a newer token in the meantime.
    options = {"preconditions": {"uid": view.uid, "resourceVersion": view.resource_version}}
    path = f"/api/v1/namespaces/{view.namespace}/secrets/{secret}"
    cluster.run("delete", "--raw", path, "--filename=-", stdin=json.dumps(options))
    echo(f"Secret {secret} deleted")


def forget_effect(fingerprint: str | None, family: TokenFamily, source: str) -> str:
    """Describe what happens to the token in the source Secret when the token Secret is deleted.

    The fingerprint is None if that Secret contains no token or cannot be read.
    """
    if fingerprint is None:
        return f"Secret {source} contains no readable token: store a new one there first"
    if fingerprint == family.live:
        return f"Secret {source} contains the same token, not yet consumed: nothing is lost"
    if family.has_seen(fingerprint):
        return (
            f"Secret {source} contains a CONSUMED token, and the issuer may revoke the whole family if it is sent: "
            "store a new one there first"
        )
    return f"Secret {source} contains a new token, which Keyturn uses even if the token Secret is kept"
