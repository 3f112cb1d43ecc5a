"""A place to try Keyturn in, until Ctrl-C: `make playground`, and then docs/tutorial.md in another shell.

A Kubernetes without nodes and an AWS emulator. What a node would do is done here: once Helm has made the
operator's service account, the operator runs as that account.
"""

import os
import shlex
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.aws.running import Aws, running_emulator
from tests.cluster.operator import running_operator
from tests.controlplane import ControlPlane, binary
from tests.controlplane.cluster import write_secretly
from tests.demo import say

_ENVIRONMENT = Path("build") / "playground.env"
_NAMESPACE, _ACCOUNT = "keyturn", "keyturn"


def main(environment: Path) -> None:
    """Start all, and tell how to get there."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sessions = int(os.environ.get("SESSION_SECONDS", "60"))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyturn-playground-")))
        say("a Kubernetes control plane (the first start builds it: about 7 minutes)")
        (directory / "plane").mkdir()
        plane = stack.enter_context(ControlPlane.started(directory / "plane"))
        say(f"an AWS emulator, whose sessions last {sessions} s")
        aws = stack.enter_context(running_emulator(session_seconds=sessions))
        stack.callback(environment.unlink, missing_ok=True)
        environment.parent.mkdir(exist_ok=True)
        write_secretly(environment, _variables(plane, aws))
        say("ready until Ctrl-C. In another shell:")
        print(f". {environment}", flush=True)
        _wait_for_account(plane)
        say("the service account is there: the operator runs")
        stack.enter_context(running_operator(plane, aws, directory, account=(_NAMESPACE, _ACCOUNT)))
        signal.pause()


def _variables(plane: ControlPlane, aws: Aws) -> str:
    programs = [str(binary(name).parent) for name in ("helm", "kubectl")]
    path = os.pathsep.join(dict.fromkeys([*programs, str(Path(sys.executable).parent)]))
    # kubectl's usual cache is keyed by address: on a reused port it would tell of another cluster's kinds.
    values = {
        "KUBECONFIG": str(plane.kubeconfig),
        "KUBECACHEDIR": str(plane.kubeconfig.parent / "cache"),
        "LICENSE_TOKEN": aws.refresh_token(),
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    return "\n".join([*lines, f'export PATH={shlex.quote(path)}:"$PATH"', ""])


def _wait_for_account(plane: ControlPlane) -> None:
    while not plane.kubectl("get", "serviceaccount", _ACCOUNT, "-n", _NAMESPACE, "--ignore-not-found"):
        time.sleep(1)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if sys.argv[1:] else _ENVIRONMENT)
    except KeyboardInterrupt:
        print()
