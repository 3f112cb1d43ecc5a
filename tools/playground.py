"""An environment to try Keyturn: run `make playground`, then follow docs/getting-started.md in another shell.

It consists of a Kubernetes control plane without nodes, an AWS emulator and, if Prometheus is installed, a Prometheus
with the chart's rules. Because there is no node, the operator runs as a process with the chart's service account once
Helm has created the Deployment.
"""

import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.cluster.operator import running_operator
from tests.support.controlplane import ControlPlane, binary
from tests.support.controlplane.cluster import write_private_file
from tests.support.controlplane.configuration import free_ports
from tests.support.emulator.client import Emulator, running_emulator
from tests.support.prometheus.binaries import prometheus_binary as monitoring
from tests.support.prometheus.rules import RULES
from tests.support.prometheus.server import running_prometheus
from tools.demo import control_plane, print_step

_ENVIRONMENT = Path("build") / "playground.env"
_NAMESPACE, _ACCOUNT = "keyturn", "keyturn"


def main(environment: Path) -> None:
    """Start everything, print how to use it, and wait for Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyturn-playground-")))
        address = f"127.0.0.1:{free_ports()[0]}"
        plane = stack.enter_context(control_plane(directory))
        sessions = int(os.environ.get("SESSION_SECONDS", "60"))
        print_step(f"Starting an AWS emulator with sessions of {sessions} s")
        aws = stack.enter_context(running_emulator(session_seconds=sessions))
        variables = stack.enter_context(monitored(directory, address)) | _variables(plane, aws)
        stack.callback(environment.unlink, missing_ok=True)
        environment.parent.mkdir(exist_ok=True)
        write_private_file(environment, _exports(variables))
        print_step("Ready until Ctrl-C. In another shell:")
        print(f". {environment}", flush=True)
        _wait_for_release(plane)
        flags = (f"--http-bind-address={address}", "--log-level=info", "--log-format=text", *_namespaces(plane))
        stack.enter_context(running_operator(plane, aws, directory, account=(_NAMESPACE, _ACCOUNT), flags=flags))
        print_step("Keyturn is installed and the operator is running. Its log:")
        print(directory / "operator.log", flush=True)
        signal.pause()


@contextmanager
def monitored(directory: Path, address: str) -> Iterator[dict[str, str]]:
    """Run a Prometheus that scrapes the operator; yields an environment variable, or nothing if it is not installed."""
    try:
        monitoring("prometheus")
    except pytest.skip.Exception as reason:
        print_step(f"No alerts, because Prometheus is not installed: {reason}")
        yield {}
        return
    print_step("Starting a Prometheus with the chart's alerts")
    (directory / "prometheus").mkdir()
    with running_prometheus(directory / "prometheus", {"keyturn-0": address}, RULES.read_text()) as started:
        yield {"PROMETHEUS": started.url}


def _variables(plane: ControlPlane, aws: Emulator) -> dict[str, str]:
    # kubectl caches discovery by address: on a reused port it would return another cluster's resources.
    return {
        "KUBECONFIG": str(plane.kubeconfig),
        "KUBECACHEDIR": str(plane.kubeconfig.parent / "cache"),
        "LICENSE_TOKEN": aws.refresh_token(),
    }


def _exports(variables: Mapping[str, str]) -> str:
    programs = [binary("helm"), binary("kubectl"), Path(sys.executable)]
    programs += [monitoring("promtool")] if "PROMETHEUS" in variables else []
    path = os.pathsep.join(dict.fromkeys(str(program.parent) for program in programs))
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    return "\n".join([*lines, f'export PATH={shlex.quote(path)}:"$PATH"', ""])


def _namespaces(plane: ControlPlane) -> list[str]:
    """Return the namespace flags of the chart's Deployment: the operator's rights are limited to these namespaces."""
    which = "-o=jsonpath={.spec.template.spec.containers[0].args[*]}"
    args = plane.kubectl("get", "deployment", _ACCOUNT, "-n", _NAMESPACE, which)
    return [word for word in args.split() if word.startswith("--watch-namespace=")]


def _wait_for_release(plane: ControlPlane) -> None:
    while not plane.kubectl("get", "deployment", _ACCOUNT, "-n", _NAMESPACE, "--ignore-not-found"):
        time.sleep(1)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if sys.argv[1:] else _ENVIRONMENT)
    except KeyboardInterrupt:
        print()
