"""kubectl keyturn login: sign in for a TokenRequest, and store the result with the user's own permissions."""

import base64
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import click

from keyturn.api.base import InvalidSpecError
from keyturn.api.exchanges.oauth_client import ClientServiceAccountSpec
from keyturn.api.source import SOURCE_LABEL, SecretKeyRef, ValueRef
from keyturn.api.token_request import parse
from keyturn.cli import now
from keyturn.cli.kubectl import COMMANDS
from keyturn.cli.kubectl.cluster import REQUESTS, Cluster, ClusterError, cluster_options, completing
from keyturn.cli.kubectl.describe import RequestView, view_request
from keyturn.cli.login.client import ValueReader
from keyturn.cli.login.options import login_options
from keyturn.cli.login.plan import plan_login
from keyturn.cli.login.sign_in import LoginOptions, open_session
from keyturn.cli.terminal import echo, examples, printable
from keyturn.core.token_times import jwt_claims

# Its own field manager: a later sign-in replaces what it wrote, and kubectl apply of the user keeps its fields.
_APPLY = ("apply", "--server-side", "--force-conflicts", "--field-manager=keyturn-login", "--filename=-")
_RENEWAL_SECONDS, _NEXT_ATTEMPT_SECONDS, _POLL_SECONDS = 60, 10, 1
# Longer than it takes to reconnect to a VPN, or to restart an API server.
_STORE_ATTEMPTS, _STORE_PAUSE_SECONDS = 60, 5


@click.command(
    help=COMMANDS["login"].summary,
    epilog=examples("kubectl keyturn login acme", "kubectl keyturn login acme --device --yes"),
)
@click.argument("name", shell_complete=completing(REQUESTS))
@click.option("--wait/--no-wait", default=True, help="Wait for the renewal after the sign-in; exit with 1 if it fails.")
@login_options
@cluster_options
def login(cluster: Cluster, name: str, options: LoginOptions, ca_file: Path | None, *, wait: bool, yes: bool) -> None:
    body = cluster.get(REQUESTS, name)
    try:
        request = parse(body)
    except InvalidSpecError as error:
        raise ClusterError(f"{name}: {error.message}") from None
    plan = plan_login(request)
    reader = ValueReader(cache(partial(_read, cluster)), partial(create_token, cluster))
    session = open_session(plan, options, ca_file, reader)
    # Before the sign-in: a refresh token that cannot be stored would be lost.
    cluster.run(*_APPLY, "--dry-run=server", stdin=_secret(plan.stores, dict.fromkeys(plan.stores, "")))
    keys = " and ".join(ref.key for ref in plan.stores.values())
    if not yes:
        question = session.question(f"{keys} to Secret {request.namespace}/{plan.secret_name}")
        click.confirm(printable(question), abort=True, err=True)
    values = session.run()
    # The attempts during the sign-in could not use its result. An error must not prevent that it is stored.
    with suppress(ClusterError):
        body = cluster.get(REQUESTS, name)
    store(cluster, _secret(plan.stores, values))
    echo(f"Secret {plan.secret_name} written")
    if request.spec.suspend:
        echo(f"{name} is suspended: spec.suspend is true", err=True)
    elif wait:
        _wait_for_attempt(cluster, name, view_request(body, now()))


def store(cluster: Cluster, secret: str, sleep: Callable[[float], object] = time.sleep) -> None:
    """Apply a Secret with the result of a sign-in, which exists nowhere else, until it succeeds. Raises ClusterError.

    The API server was available before the sign-in, which may have taken minutes.
    """
    problem = ""
    for _ in range(_STORE_ATTEMPTS):
        try:
            cluster.run(*_APPLY, stdin=secret)
        except ClusterError as error:
            problem = error.format_message()
            echo(f"not stored yet: {problem}; trying again, Ctrl-C would lose the result of the sign-in", err=True)
            sleep(_STORE_PAUSE_SECONDS)
        else:
            return
    raise ClusterError(f"the result of the sign-in could not be stored and is lost; sign in again: {problem}")


def _wait_for_attempt(cluster: Cluster, name: str, before: RequestView) -> None:
    """Wait until the operator, which watches the Secret, has used it. Raises ClusterError if the renewal has failed."""

    def attempt(view: RequestView) -> tuple[str | None, int, int]:
        return view.status.last_attempt_time, view.status.failed_attempts, view.status.revision

    deadline = time.monotonic() + _RENEWAL_SECONDS
    problem = f"not renewed within {_RENEWAL_SECONDS} s; is an operator running for this namespace?"
    while time.monotonic() < deadline:
        view = view_request(cluster.get(REQUESTS, name), now())
        if attempt(view) != attempt(before):
            if not view.last_error:
                echo(f"{name}: renewed, valid until {view.status.expiration_time}")
                return
            # The attempt may have begun before the Secret was written; the next one then follows at once.
            before, problem = view, view.last_error
            deadline = min(deadline, time.monotonic() + _NEXT_ATTEMPT_SECONDS)
        time.sleep(_POLL_SECONDS)
    raise ClusterError(printable(f"{name}: {problem}"))


def _secret(stores: Mapping[str, SecretKeyRef], values: Mapping[str, str]) -> str:
    """Return the Secret to apply: the keys that the sign-in owns, and the label with which the operator watches it."""
    [name] = {ref.name for ref in stores.values()}
    data = {stores[member].key: base64.b64encode(value.encode()).decode() for member, value in values.items()}
    metadata = {"name": name, "labels": dict([SOURCE_LABEL])}
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})


def _read(cluster: Cluster, ref: ValueRef) -> str:
    """Read a value that the TokenRequest refers to. Raises ClusterError."""
    kind = "secret" if isinstance(ref, SecretKeyRef) else "configmap"
    value = (cluster.get(kind, ref.name).get("data") or {}).get(ref.key)
    if value is None:
        raise ClusterError(f"{kind} {ref.name} has no key {ref.key}")
    try:
        return base64.b64decode(value).decode() if kind == "secret" else str(value)
    except UnicodeError:
        raise ClusterError(f"key {ref.key} of {kind} {ref.name} is not text") from None


def create_token(cluster: Cluster, account: ClientServiceAccountSpec) -> str:
    """Create a token of a ServiceAccount with the user's permissions. Raises ClusterError.

    The operator's settings do not apply here. Therefore no token is created that the API server itself accepts: its
    recipient, which the author of the TokenRequest chose, could use it.
    """
    # Without an audience, Kubernetes creates a token with all audiences of the API server.
    own = (jwt_claims(cluster.run("create", "token", account.name).strip()) or {}).get("aud")
    own = [own] if isinstance(own, str) else own or account.audiences
    if accepted := set(account.audiences).intersection(own):
        raise ClusterError(
            f"the API server itself accepts tokens for {', '.join(sorted(accepted))}, which would give access to the"
            " cluster: set the audiences of serviceAccount to one that only the issuer accepts"
        )
    flags = [f"--audience={audience}" for audience in account.audiences]
    if account.expiration_seconds:
        flags.append(f"--duration={account.expiration_seconds}s")
    return cluster.run("create", "token", account.name, *flags).strip()
