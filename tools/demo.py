"""A live demo: a License Manager token becomes AWS credentials in a Secret, which are renewed before they expire.

`make demo` runs until Ctrl-C, `make demo ONCE=1` exits by itself. KUBECONFIG_DEMO=path uses your cluster; the demo
creates a namespace and removes it at the end.
"""

import base64
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.cluster.chart import RIGHTS, chart_objects
from tests.support.cluster.crd import CRD
from tests.support.cluster.operator import Operator, running_operator
from tests.support.cluster.sources import caller_arn
from tests.support.controlplane import ControlPlane, ExistingCluster
from tests.support.emulator.client import Emulator, running_emulator
from tests.support.signals import interrupt_on_signals

_ROOT = Path(__file__).parents[1]
_EXAMPLE = _ROOT / "examples" / "license-manager.yaml"
_NAMESPACE = "keyturn-demo"
_NAME, _SECRET = "acme-billing", "acme-billing-aws"
_SESSION_SECONDS = 15
Cluster = ControlPlane | ExistingCluster


def main() -> None:
    """Run the demo once, then wait for Ctrl-C."""
    interrupt_on_signals()
    started = time.monotonic()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyturn-demo-")))
        cluster = stack.enter_context(_cluster(directory))
        print_step("Starting an AWS emulator with sessions of 15 s")
        aws = stack.enter_context(running_emulator(session_seconds=_SESSION_SECONDS))
        print_step("Installing the chart's CRD and RBAC, and starting the operator with its service account")
        stack.enter_context(_installed(cluster))
        flags = (f"--watch-namespace={_NAMESPACE}", f"--lease-namespace={_NAMESPACE}")
        operator = stack.enter_context(
            running_operator(cluster, aws, directory, account=(_NAMESPACE, "keyturn"), flags=flags)
        )
        print_step(f"Ready after {time.monotonic() - started:.0f} s")
        _show(cluster, aws, operator)
        if os.environ.get("ONCE"):
            return
        print_step("Renewing until Ctrl-C. To watch it in another shell:")
        print(f"export KUBECONFIG={cluster.kubeconfig}\nkubectl -n {_NAMESPACE} get treq -w", flush=True)
        signal.pause()


def print_step(sentence: str) -> None:
    print(f"\n=== {sentence}", flush=True)


@contextmanager
def _cluster(directory: Path) -> Iterator[Cluster]:
    if kubeconfig := os.environ.get("KUBECONFIG_DEMO"):
        print_step(f"Using the cluster of {kubeconfig}")
        if not Path(kubeconfig).is_file():
            sys.exit(f"KUBECONFIG_DEMO: {kubeconfig} does not exist")
        yield ExistingCluster(Path(kubeconfig).resolve(), directory)
        return
    with control_plane(directory) as plane:
        yield plane


@contextmanager
def control_plane(directory: Path) -> Iterator[ControlPlane]:
    print_step("Starting a Kubernetes control plane (the first start builds it, which takes about 7 minutes)")
    (directory / "plane").mkdir()
    with ControlPlane.started(directory / "plane") as plane:
        yield plane


@contextmanager
def _installed(cluster: Cluster) -> Iterator[None]:
    had_crd = bool(cluster.kubectl("get", CRD, "--ignore-not-found"))
    values = {"crds": {"enabled": not had_crd, "keep": False}, "watchNamespaces": [_NAMESPACE]}
    objects = chart_objects(values, namespace=_NAMESPACE, only=RIGHTS if not had_crd else RIGHTS[1:])
    cluster.kubectl("create", "namespace", _NAMESPACE)
    try:
        print(cluster.kubectl("apply", "-f", "-", stdin=objects).strip())
        cluster.wait_for_crds(CRD)
        yield
    finally:
        cluster.kubectl("delete", "--wait=false", "-f", "-", stdin=objects, check=False)
        cluster.kubectl("delete", "namespace", _NAMESPACE, "--wait=false", check=False)


def _show(cluster: Cluster, aws: Emulator, operator: Operator) -> None:
    def kubectl(*args: str, stdin: str | None = None) -> str:
        return cluster.kubectl("--namespace", _NAMESPACE, *args, stdin=stdin).strip()

    print_step("Creating a Secret with a refresh token and the TokenRequest in examples/license-manager.yaml")
    kubectl("create", "secret", "generic", "acme-license", f"--from-literal=license_token={aws.refresh_token()}")
    print(kubectl("apply", "-f", str(_EXAMPLE)))
    print(kubectl("wait", "--for=condition=Ready", f"treq/{_NAME}", "--timeout=30s"))
    print(kubectl("get", "treq"))

    print_step("The keys of the Secret, and the caller identity of its credentials")
    _show_identity(kubectl, aws)

    print_step("Two renewals, each before the credentials expire")
    for revision in (2, 3):
        condition = f"--for=jsonpath={{.status.revision}}={revision}"
        kubectl("wait", condition, f"treq/{_NAME}", "--timeout=60s")
        print(kubectl("get", "treq", _NAME, "-o", "wide", "--no-headers"))
    _show_identity(kubectl, aws)

    print_step("The expiration metrics, and the Events: one, for the first issuance")
    metrics = [line for line in operator.get("/metrics").splitlines() if line.startswith("keyturn_credentials_")]
    print("\n".join(metrics))
    print(kubectl("get", "events", f"--field-selector=involvedObject.name={_NAME}"))


def _show_identity(kubectl: Callable[..., str], aws: Emulator) -> None:
    """Call sts:GetCallerIdentity with only the credentials in the Secret."""
    secret = json.loads(kubectl("get", "secret", _SECRET, "-o", "json"))
    data = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    print("keys:", ", ".join(data))
    print("sts:GetCallerIdentity:", caller_arn(data, aws), "until", data["expiration"])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print()
