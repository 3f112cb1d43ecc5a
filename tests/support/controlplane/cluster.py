"""A cluster as its kubeconfig lets us use it."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.controlplane.build import binary

KUBECTL_SECONDS = 120


class KubectlError(RuntimeError):
    """kubectl refused; the message has its command and what it said."""


@dataclass(frozen=True, slots=True)
class ExistingCluster:
    """A cluster that runs already. What we write for it (tokens, kubectl's cache) goes into `directory`."""

    kubeconfig: Path
    directory: Path

    def kubectl(
        self, *args: str, stdin: str | None = None, check: bool = True, kubeconfig: Path | None = None
    ) -> str:
        """Run kubectl and return what it printed. With `check=False` a refusal is returned, not raised."""
        # The usual cache is keyed by address: on a reused port it would tell of another cluster's kinds.
        where = ["--kubeconfig", str(kubeconfig or self.kubeconfig), "--cache-dir", str(self.directory / "cache")]
        done = subprocess.run(
            [str(binary("kubectl")), *where, *args],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=KUBECTL_SECONDS,
            env=os.environ | {"KUBERC": "off"},
            check=False,
        )
        if done.returncode == 0:
            return done.stdout
        if check:
            raise KubectlError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout + done.stderr

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Write a kubeconfig with a day's token of a service account that exists: its own rights apply."""
        token = self.kubectl("create", "token", name, "--namespace", namespace, "--duration=24h").strip()
        config = json.loads(self.kubectl("config", "view", "--raw", "--minify", "--flatten", "--output=json"))
        user = config["contexts"][0]["context"]["user"]
        config["users"] = [{"name": user, "user": {"token": token}}]
        config["contexts"][0]["context"]["namespace"] = namespace
        path = self.directory / f"{namespace}-{name}.kubeconfig"
        write_private_file(path, json.dumps(config))
        return path


def write_private_file(path: Path, text: str) -> None:
    """Write a file that only we may read."""
    path.touch(mode=0o600)
    path.write_text(text)
