"""kubectl keyturn doctor and version: shows the operators in the cluster, and what could prevent renewals."""

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

import click
import msgspec
from msgspec import Meta

from keyturn import __version__
from keyturn.api.base import GROUP
from keyturn.api.crd import crd
from keyturn.api.times import human_duration, read_time
from keyturn.cli import now
from keyturn.cli.kubectl import COMMANDS
from keyturn.cli.kubectl.cluster import REQUESTS, Cluster, ClusterError, Object, cluster_options
from keyturn.cli.kubectl.describe import view_request
from keyturn.cli.kubectl.output import write
from keyturn.cli.terminal import Color, ColoredLine, echo, examples

# As in the chart's Deployment.
_SELECTOR = "app.kubernetes.io/name=keyturn"
_WATCH = "--watch-namespace="
# As the operator writes it: controller/scope.py.
_SCOPE_LABEL, _CLUSTER_WIDE = f"{GROUP}/scope", "keyturn-cluster-scope"
_MAX_CLOCK_DIFFERENCE = timedelta(seconds=5)
_RIGHTS = (("get", REQUESTS), ("list", REQUESTS), ("patch", REQUESTS), ("get", "secrets"))


class OperatorDeployment(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A Deployment of the operator that was installed with the chart."""

    namespace: Annotated[str, Meta(description="Namespace of the Deployment.")]
    name: Annotated[str, Meta(description="Name of the Deployment.")]
    version: Annotated[str, Meta(description="Version of the operator, or unknown.")]
    replicas: Annotated[int, Meta(description="Number of replicas in the spec.")]
    ready_replicas: Annotated[int, Meta(description="Number of replicas that are ready.")]
    namespaces: Annotated[tuple[str, ...], Meta(description="Namespaces that it watches; empty for all.")]

    @classmethod
    def parse(cls, body: Object) -> Self:
        """Read a Deployment."""
        meta, spec = body["metadata"], body["spec"]
        containers = spec["template"]["spec"]["containers"]
        arguments = [argument for container in containers for argument in container.get("args") or []]
        return cls(
            namespace=meta["namespace"],
            name=meta["name"],
            version=(meta.get("labels") or {}).get("app.kubernetes.io/version", "unknown"),
            replicas=spec.get("replicas", 1),
            ready_replicas=(body.get("status") or {}).get("readyReplicas", 0),
            namespaces=tuple(text.removeprefix(_WATCH) for text in arguments if text.startswith(_WATCH)),
        )


class Versions(msgspec.Struct, frozen=True, rename="camel"):
    """The result of `kubectl keyturn version`."""

    client_version: Annotated[str, Meta(description="Version of this client.")]
    operators: Annotated[tuple[OperatorDeployment, ...], Meta(description="The operators in the cluster.")]


class Finding(msgspec.Struct, frozen=True):
    """The result of one check."""

    level: Annotated[Literal["ok", "warning", "error"], Meta(description="ok, warning or error.")]
    message: Annotated[str, Meta(description="What was found, and what to do about it.")]


class Diagnosis(msgspec.Struct, frozen=True):
    """The result of `kubectl keyturn doctor`."""

    findings: Annotated[tuple[Finding, ...], Meta(description="The results of the checks, in order.")]


_DOCTOR_HELP = """

It checks the CRD, the operators and their Leases, your permissions, the clock, and the TokenRequests of the namespace.
"""
_output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "yaml"]),
    default="text",
    show_default=True,
    help="Output format.",
)


@click.command(help=COMMANDS["version"].summary, epilog=examples("kubectl keyturn version"))
@_output_option
@cluster_options
def version(cluster: Cluster, output: str) -> None:
    if output == "text":
        echo(f"Client: {__version__}")
    try:
        operators = list_operators(cluster)
    except ClusterError as error:
        raise ClusterError(f"the version of the operator cannot be read: {error.message}") from None
    if output != "text":
        write(Versions(__version__, operators), output)
        return
    if operators:
        echo(*(f"Operator {operator.namespace}/{operator.name}: {operator.version}" for operator in operators))
    else:
        echo("Operator: none was installed with the chart", err=True)


@click.command(
    help=COMMANDS["doctor"].summary + _DOCTOR_HELP,
    epilog=examples("kubectl keyturn doctor", "kubectl keyturn doctor -n shop -o json"),
)
@_output_option
@cluster_options
def doctor(cluster: Cluster, output: str) -> None:
    checks = (_crd, _operators, _scopes, _rights, _clock, _requests)
    findings = tuple(finding for check in checks for finding in _report(check, cluster))
    if output == "text":
        colors: Mapping[str, Color] = {"error": "red", "warning": "yellow"}
        echo(*(ColoredLine(f"{it.level:<9}{it.message}", colors.get(it.level, "")) for it in findings))
    else:
        write(Diagnosis(findings), output)
    sys.exit(any(finding.level == "error" for finding in findings))


def _report(check: Callable[[Cluster], Iterator[Finding]], cluster: Cluster) -> Iterator[Finding]:
    """Run a check. If the user lacks a permission, the result is a warning: the other checks may be sufficient."""
    try:
        yield from check(cluster)
    except ClusterError as error:
        yield Finding("warning", f"not checked: {error.message}")


def _crd(cluster: Cluster) -> Iterator[Finding]:
    installed = cluster.get("customresourcedefinition", REQUESTS)
    schemas = [
        {version["name"]: version["schema"] for version in body["spec"]["versions"]} for body in (installed, crd())
    ]
    if schemas[0] == schemas[1]:
        yield Finding("ok", f"the CRD {REQUESTS} is that of version {__version__}")
    else:
        yield Finding(
            "warning",
            f"the CRD {REQUESTS} is not that of this client's version {__version__}; after an upgrade of Keyturn, apply"
            " its CRD: keyturn crd | kubectl apply --server-side -f -",
        )


def _operators(cluster: Cluster) -> Iterator[Finding]:
    operators = list_operators(cluster)
    for operator in operators:
        yield Finding(
            "ok" if operator.ready_replicas else "error",
            f"Deployment {operator.namespace}/{operator.name}: version {operator.version},"
            f" {operator.ready_replicas} of {operator.replicas} replicas ready,"
            f" watches {', '.join(operator.namespaces) or 'all namespaces'}",
        )
    if not operators:
        yield Finding("warning", "no operator was installed with the chart; the Leases below show whether one runs")


def _scopes(cluster: Cluster) -> Iterator[Finding]:
    """Report which installation renews where (docs/operations/troubleshooting.md#scopeconflict)."""
    leases = cluster.list_objects("leases.coordination.k8s.io", "--all-namespaces", f"--selector={_SCOPE_LABEL}")
    cluster_wide = [lease for lease in leases if lease["metadata"]["name"] == _CLUSTER_WIDE and _is_fresh(lease)]
    working = {_holder(lease) for lease in cluster_wide}
    namespaced = {
        lease["metadata"]["namespace"]: _holder(lease)
        for lease in leases
        if lease["metadata"]["labels"][_SCOPE_LABEL] == "namespaced" and _is_fresh(lease)
    }
    for holder in sorted(working):
        yield Finding("ok", f"installation {holder} renews in all namespaces")
    for namespace, holder in sorted(namespaced.items()):
        yield Finding("ok", f"installation {holder} renews in namespace {namespace}")
    if len(working) > 1:
        yield Finding("warning", "several installations are cluster-wide: one renews, the others stand by")
    elif working and namespaced:
        yield Finding("warning", "the cluster-wide installation does not renew in the namespaces of the others")
    elif not working and not namespaced:
        yield Finding("error", "no operator renews its Lease: none is running")


def _rights(cluster: Cluster) -> Iterator[Finding]:
    for verb, kind in _RIGHTS:
        try:
            cluster.run("auth", "can-i", verb, kind, "--quiet")
        except ClusterError:
            yield Finding("warning", f"you may not {verb} {kind} in this namespace")
            return
    yield Finding("ok", "you may get, list and patch TokenRequests and get Secrets in this namespace")


def _clock(cluster: Cluster) -> Iterator[Finding]:
    before = now()
    review = cluster.run("auth", "whoami", "--output=jsonpath={.metadata.creationTimestamp}")
    time = read_time(review)
    if time is None:
        return
    difference = max(before - time - timedelta(seconds=1), time - now(), timedelta())
    if difference > _MAX_CLOCK_DIFFERENCE:
        yield Finding("warning", f"this machine's clock differs from the API server's by {human_duration(difference)}")
    else:
        yield Finding("ok", "this machine's clock agrees with the API server's")


def _requests(cluster: Cluster) -> Iterator[Finding]:
    views = [view_request(body, now()) for body in cluster.list_objects(REQUESTS)]
    names = sorted(view.name for view in views if view.condition("Ready")[0] != "True")
    if names:
        command = shlex.join(("kubectl", "keyturn", "status", names[0], *cluster.flags))
        yield Finding(
            "warning", f"{len(names)} of {len(views)} TokenRequests in this namespace are not Ready; run: {command}"
        )
    else:
        yield Finding("ok", f"all {len(views)} TokenRequests in this namespace are Ready")


def _holder(lease: Object) -> str:
    return str(lease["spec"].get("holderIdentity") or "")


def _is_fresh(lease: Object) -> bool:
    """Whether somebody holds a Lease and has renewed it recently, by this machine's clock."""
    spec: dict[str, Any] = lease.get("spec") or {}
    renewed = read_time(spec.get("renewTime"))
    seconds = spec.get("leaseDurationSeconds") or 0
    return bool(spec.get("holderIdentity") and renewed and now() - renewed < timedelta(seconds=2 * seconds))


def list_operators(cluster: Cluster) -> tuple[OperatorDeployment, ...]:
    """List the operators in all namespaces. Raises ClusterError, for example without the permission."""
    bodies = cluster.list_objects("deployments.apps", "--all-namespaces", f"--selector={_SELECTOR}")
    return tuple(OperatorDeployment.parse(body) for body in bodies)
