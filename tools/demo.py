"""The main job, live: a License Manager token becomes AWS credentials in a Secret, renewed before they expire.

`make demo` ends with Ctrl-C, `make demo ONCE=1` by itself; KUBECONFIG_DEMO=path uses your cluster, in a namespace
of its own that is removed at the end.
"""

import base64
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import boto3

from tests.support.cluster.chart import RIGHTS, chart_objects
from tests.support.cluster.operator import Operator, running_operator
from tests.support.controlplane import ControlPlane, ExistingCluster
from tests.support.emulator.client import Emulator, running_emulator

_ROOT = Path(__file__).parents[1]
_EXAMPLE = _ROOT / "examples" / "license-manager.yaml"
_NAMESPACE = "keyturn-demo"
_NAME, _SECRET = "acme-billing", "acme-billing-aws"
_SESSION_SECONDS = 15
_CRD = "crd/tokenrequests.keyturn.dev"
Cluster = ControlPlane | ExistingCluster


def main() -> None:
    """Show it all once, then wait for Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    started = time.monotonic()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyturn-demo-")))
        cluster = stack.enter_context(_cluster(directory))
        say("an AWS emulator, whose sessions last 15 s")
        aws = stack.enter_context(running_emulator(session_seconds=_SESSION_SECONDS))
        say("the CRD and the operator's rights, from the chart; the operator, as its own service account")
        stack.enter_context(_installed(cluster))
        operator = stack.enter_context(_operator(cluster, aws, directory))
        say(f"ready after {time.monotonic() - started:.0f} s")
        _show(cluster, aws, operator)
        if os.environ.get("ONCE"):
            return
        say("renewing until Ctrl-C; look at it from another shell:")
        print(f"export KUBECONFIG={cluster.kubeconfig}\nkubectl -n {_NAMESPACE} get treq -w", flush=True)
        signal.pause()


def say(sentence: str) -> None:
    """Print a step."""
    print(f"\n=== {sentence}", flush=True)


@contextmanager
def _cluster(directory: Path) -> Iterator[Cluster]:
    if given := os.environ.get("KUBECONFIG_DEMO"):
        say(f"the Kubernetes of {given}")
        if not Path(given).is_file():
            sys.exit(f"KUBECONFIG_DEMO: there is no file {given}")
        yield ExistingCluster(Path(given).resolve(), directory)
        return
    say("a Kubernetes control plane (the first start builds it: about 7 minutes)")
    (directory / "plane").mkdir()
    with ControlPlane.started(directory / "plane") as plane:
        yield plane


@contextmanager
def _installed(cluster: Cluster) -> Iterator[None]:
    had_crd = bool(cluster.kubectl("get", _CRD, "--ignore-not-found"))
    values = {"crds": {"enabled": not had_crd, "keep": False}, "scopedNamespaces": [_NAMESPACE]}
    objects = chart_objects(values, namespace=_NAMESPACE, only=RIGHTS if not had_crd else RIGHTS[1:])
    cluster.kubectl("create", "namespace", _NAMESPACE)
    try:
        print(cluster.kubectl("apply", "-f", "-", stdin=objects).strip())
        cluster.kubectl("wait", "--for=condition=Established", _CRD, "--timeout=30s")
        yield
    finally:
        cluster.kubectl("delete", "--wait=false", "-f", "-", stdin=objects, check=False)
        cluster.kubectl("delete", "namespace", _NAMESPACE, "--wait=false", check=False)


@contextmanager
def _operator(cluster: Cluster, aws: Emulator, directory: Path) -> Iterator[Operator]:
    flags = (f"--namespace={_NAMESPACE}", f"--lease-namespace={_NAMESPACE}")
    with running_operator(cluster, aws, directory, account=(_NAMESPACE, "keyturn"), flags=flags) as operator:
        yield operator


def _show(cluster: Cluster, aws: Emulator, operator: Operator) -> None:
    def kubectl(*args: str, stdin: str | None = None) -> str:
        return cluster.kubectl("--namespace", _NAMESPACE, *args, stdin=stdin).strip()

    say("a Secret with a refresh token, and the TokenRequest of examples/license-manager.yaml")
    kubectl("create", "secret", "generic", "acme-license", f"--from-literal=license_token={aws.refresh_token()}")
    print(kubectl("apply", "-f", str(_EXAMPLE)))
    print(kubectl("wait", "--for=condition=Ready", f"treq/{_NAME}", "--timeout=30s"))
    print(kubectl("get", "treq"))

    say("the keys of its Secret, and who AWS says these credentials are")
    _prove(kubectl("get", "secret", _SECRET, "-o", "json"), aws)

    say("two renewals, each before the credentials expire")
    for revision in (2, 3):
        condition = f"--for=jsonpath={{.status.revision}}={revision}"
        kubectl("wait", condition, f"treq/{_NAME}", "--timeout=60s")
        print(kubectl("get", "treq", _NAME, "-o", "wide", "--no-headers"))
    _prove(kubectl("get", "secret", _SECRET, "-o", "json"), aws)

    say("the expiry metrics, and the events: one, for the first issue")
    shown = [line for line in operator.get("/metrics").splitlines() if line.startswith("keyturn_credentials_")]
    print("\n".join(shown))
    print(kubectl("get", "events", f"--field-selector=involvedObject.name={_NAME}"))


def _prove(secret: str, aws: Emulator) -> None:
    """Call sts:GetCallerIdentity with nothing but what is in the Secret."""
    data = {key: base64.b64decode(value).decode() for key, value in json.loads(secret)["data"].items()}
    print("keys:", ", ".join(data))
    client = boto3.client(
        "sts",
        region_name=data["AWS_REGION"],
        endpoint_url=aws.url,
        aws_access_key_id=data["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=data["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=data["AWS_SESSION_TOKEN"],
    )
    print("sts:GetCallerIdentity:", client.get_caller_identity()["Arn"], "until", data["expiration"])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print()
