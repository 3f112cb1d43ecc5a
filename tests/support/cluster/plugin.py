"""kubectl keyturn, as kubectl finds and runs it."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.cluster.namespace import Namespace
from tests.support.controlplane import binary

_ROOT = Path(__file__).parents[3]
# What an installation writes for the scripts of pyproject.toml.
_SCRIPT = "#!{python}\nimport sys\nsys.path[:0] = [{source!r}]\nfrom keyturn.cli.kubectl import {name}\n{name}()\n"


@dataclass(frozen=True, slots=True)
class Shown:
    """How a command ended, what it wrote, and the CPU seconds that it and kubectl took."""

    code: int
    out: str
    err: str
    seconds: float


@dataclass(slots=True)
class Plugin:
    """kubectl with the plugin on its PATH, in a namespace. `everything` is all that it ever wrote."""

    namespace: Namespace
    directory: Path
    kubeconfig: Path
    everything: str = ""
    _environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        for script, name in (("kubectl-keyturn", "main"), ("kubectl_complete-keyturn", "complete")):
            path = self.directory / script
            path.write_text(_SCRIPT.format(python=sys.executable, source=str(_ROOT / "operator"), name=name))
            path.chmod(0o700)
        places = [str(self.directory), str(binary("kubectl").parent), os.environ["PATH"]]
        cache = {"KUBECACHEDIR": str(self.directory / "cache")}
        self._environment = os.environ | cache | {
            "PATH": os.pathsep.join(places), "KUBECONFIG": str(self.kubeconfig), "KUBERC": "off",
        }  # fmt: skip

    def __call__(self, *words: str, stdin: str | None = None) -> Shown:
        """Run `kubectl keyturn WORDS -n NAMESPACE`."""
        return self.kubectl("keyturn", *words, "--namespace", self.namespace.name, stdin=stdin)

    def good(self, *words: str) -> str:
        """The same; it must succeed."""
        shown = self(*words)
        assert shown.code == 0, shown.err
        return shown.out

    def bad(self, *words: str) -> str:
        """The same; it must fail, with what it says returned."""
        shown = self(*words)
        assert shown.code == 1, shown
        assert "Traceback" not in shown.err
        return shown.err

    def kubectl(self, *words: str, stdin: str | None = None) -> Shown:
        """Run kubectl."""
        before = _cpu_seconds()
        done = subprocess.run(
            ["kubectl", *words], input=stdin, stdin=subprocess.DEVNULL if stdin is None else None, timeout=60,
            capture_output=True, text=True, check=False, env=self._environment,
        )  # fmt: skip
        self.everything += done.stdout + done.stderr
        return Shown(done.returncode, done.stdout, done.stderr, _cpu_seconds() - before)

    @contextmanager
    def watching(self, *words: str) -> Iterator[Iterator[str]]:
        """Run a command that does not end, and give its lines; then end it."""
        with subprocess.Popen(
            ["kubectl", "keyturn", *words, "--namespace", self.namespace.name],
            stdout=subprocess.PIPE, text=True, env=self._environment,
        ) as process:  # fmt: skip
            assert process.stdout
            try:
                yield iter(process.stdout)
            finally:
                process.terminate()


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
