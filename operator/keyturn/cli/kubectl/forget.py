"""kubectl keyturn forget."""

import json
from collections.abc import Iterator
from datetime import timedelta

import click

from keyturn.cli.clock import now
from keyturn.cli.kubectl import COMMANDS
from keyturn.cli.kubectl.cluster import Cluster, ClusterError, cluster_options, completing
from keyturn.cli.kubectl.describe import row
from keyturn.cli.kubectl.secret_view import Found, find, kept
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import unwrap
from keyturn.core.token_family import TokenFamily, token_fingerprint


@click.command(help=COMMANDS["forget"])
@click.argument("secret", shell_complete=completing("secret"))
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@cluster_options
def forget(cluster: Cluster, secret: str, *, yes: bool) -> None:
    """Delete a token Secret: its TokenRequests start again from the token in the source Secret."""
    found = find(cluster, secret)
    family = found.family
    if family is None:
        raise ClusterError(f"Secret {secret} is no token Secret of Keyturn's; kubectl delete secret deletes others")
    click.echo("\n".join((f"Token Secret {found.namespace}/{secret}", *kept(found, family, now()))))
    click.echo("\n".join(_meaning(cluster, found, family)))
    intent = family.intent
    if intent and now() < intent.start + timedelta(seconds=intent.give_up_seconds):
        raise ClusterError(f"{intent.holder} is spending the token now, and would make it anew; try in a minute")
    if not yes:
        click.confirm("Delete it?", abort=True)
    # Only as it was shown: it may have been written meanwhile.
    only = {"preconditions": {"uid": found.uid, "resourceVersion": found.version}}
    path = f"/api/v1/namespaces/{found.namespace}/secrets/{secret}"
    cluster.run("delete", "--raw", path, "--filename=-", stdin=json.dumps(only))
    click.echo(f"Secret {secret} is deleted")


def _meaning(cluster: Cluster, found: Found, family: TokenFamily) -> Iterator[str]:
    source, _, key = family.source_id.partition("/")
    yield row("Means", f"what it keeps is lost here, and stays valid at the issuer; Secret {source} is the start again")
    yield row("", _state(_mark(cluster, found, source, key), family, source))


def _mark(cluster: Cluster, found: Found, source: str, key: str) -> str | None:
    """The fingerprint of the token in the source Secret; None where there is none that may be read."""
    try:
        value = find(cluster, source).body.get(key, b"").decode(errors="replace")
        return token_fingerprint(unwrap(value, "the token"), found.namespace, found.name)
    except (ClusterError, RefusedError):
        return None


def _state(mark: str | None, family: TokenFamily, source: str) -> str:
    if mark is None:
        return f"Secret {source} shows no token that can be read: put a new one there first"
    if mark == family.live:
        return f"Secret {source} shows the same token, unspent: nothing is lost"
    if family.has_seen(mark):
        return f"Secret {source} shows a SPENT token, and a strict issuer may end them all: put a new one there first"
    return f"Secret {source} shows a new token, which is used by itself: there is no need to forget"
