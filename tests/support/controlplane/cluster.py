"""A cluster that is used by its kubeconfig."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.controlplane.build import binary
from tests.support.signals import interrupt_on_signals

_KUBECTL_SECONDS = 120


class KubectlError(RuntimeError):
    """kubectl failed; the message contains its arguments and its stderr."""


@dataclass
class ExistingCluster:
    """A running cluster; tokens and kubectl's cache are written to `directory`."""

    kubeconfig: Path
    directory: Path

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True, kubeconfig: Path | None = None) -> str:
        """Run kubectl as the administrator or as the user of `kubeconfig`, and return its output.

        With `check=False` a failure's output is returned as well instead of raising KubectlError.
        """
        # kubectl's default cache is keyed by address: on a reused port it would describe another cluster's kinds.
        flags = [f"--kubeconfig={kubeconfig or self.kubeconfig}", f"--cache-dir={self.directory / 'cache'}"]
        result = subprocess.run(
            [str(binary("kubectl")), *flags, *args],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=_KUBECTL_SECONDS,
            env=os.environ | {"KUBERC": "off"},
            check=False,
        )
        if result.returncode and check:
            raise KubectlError(f"kubectl {' '.join(args)}: {result.stderr.strip()}")
        return result.stdout + result.stderr if result.returncode else result.stdout

    def wait_for_crds(self, *names: str) -> None:
        """Wait until the API server serves these custom resources."""
        wait = ("wait", "--for=condition=Established", "--timeout=30s", *names)
        deadline = time.monotonic() + 30
        # While a new CRD has no conditions, kubectl fails at once instead of waiting.
        while "accessor error" in self.kubectl(*wait, check=False) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.kubectl(*wait)

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Write a kubeconfig with a token of a service account, valid for a day."""
        token = self.kubectl("create", "token", name, "--namespace", namespace, "--duration=24h").strip()
        config = json.loads(self.kubectl("config", "view", "--raw", "--minify", "--flatten", "--output=json"))
        user = config["contexts"][0]["context"]["user"]
        config["users"] = [{"name": user, "user": {"token": token}}]
        config["contexts"][0]["context"]["namespace"] = namespace
        path = self.directory / f"{namespace}-{name}.kubeconfig"
        write_private_file(path, json.dumps(config))
        return path


def run_until_interrupted(start: Callable[[Path], AbstractContextManager[ExistingCluster]]) -> None:
    """Run a cluster until SIGINT or SIGTERM."""
    interrupt_on_signals()
    with suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as directory, start(Path(directory)) as cluster:
        print(f"export KUBECONFIG={cluster.kubeconfig}", flush=True)
        signal.pause()


def write_private_file(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.touch(mode=0o600)
    path.write_text(text)
