"""kubectl keyturn, run by kubectl."""

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
# What pip generates for the scripts in pyproject.toml.
_SCRIPT = "#!{python}\nimport sys\nsys.path[:0] = [{source!r}]\nfrom keyturn.cli.kubectl import {name}\n{name}()\n"


@dataclass(frozen=True, slots=True)
class Result:
    """Exit code, output and CPU seconds of a command, including kubectl."""

    code: int
    out: str
    err: str
    cpu_seconds: float


@dataclass(slots=True)
class Plugin:
    """kubectl with the plugin on its PATH, in a namespace. `all_output` is the output of all commands so far."""

    namespace: Namespace
    directory: Path
    kubeconfig: Path
    all_output: str = ""
    _environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        for script_name, function in (("kubectl-keyturn", "main"), ("kubectl_complete-keyturn", "complete")):
            script = self.directory / script_name
            script.write_text(_SCRIPT.format(python=sys.executable, source=str(_ROOT / "operator"), name=function))
            script.chmod(0o700)
        path = [str(self.directory), str(binary("kubectl").parent), os.environ["PATH"]]
        cache = {"KUBECACHEDIR": str(self.directory / "cache")}
        self._environment = os.environ | cache | {
            "PATH": os.pathsep.join(path), "KUBECONFIG": str(self.kubeconfig), "KUBERC": "off",
        }  # fmt: skip

    def __call__(self, *words: str, stdin: str | None = None) -> Result:
        """Run `kubectl keyturn WORDS -n NAMESPACE`."""
        return self.kubectl("keyturn", *words, "--namespace", self.namespace.name, stdin=stdin)

    def succeed(self, *words: str) -> str:
        """Run it, assert that it succeeds, and return its stdout."""
        result = self(*words)
        assert result.code == 0, result.err
        return result.out

    def fail(self, *words: str) -> str:
        """Run it, assert that it fails, and return its stderr."""
        result = self(*words)
        assert result.code == 1, result
        assert "Traceback" not in result.err
        return result.err

    def kubectl(self, *words: str, stdin: str | None = None) -> Result:
        before = _cpu_seconds()
        done = subprocess.run(
            ["kubectl", *words], input=stdin, stdin=subprocess.DEVNULL if stdin is None else None, timeout=60,
            capture_output=True, text=True, check=False, env=self._environment,
        )  # fmt: skip
        self.all_output += done.stdout + done.stderr
        return Result(done.returncode, done.stdout, done.stderr, _cpu_seconds() - before)

    def start(self, *words: str, stderr: int | None = None) -> "subprocess.Popen[str]":
        """Start a command whose output is read while it runs."""
        command = ["kubectl", "keyturn", *words, "--namespace", self.namespace.name]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=self._environment)

    @contextmanager
    def watching(self, *words: str) -> Iterator[Iterator[str]]:
        """Run a command that does not end by itself, yield its lines, and terminate it."""
        with self.start(*words) as process:
            assert process.stdout
            try:
                yield iter(process.stdout)
            finally:
                process.terminate()


def user(namespace: Namespace, directory: Path, *rights: str) -> Plugin:
    """The plugin of a user with these rights in the namespace: verbs and resources, as in `get,list secrets`."""
    namespace.kubectl("create", "serviceaccount", "user")
    for number, right in enumerate(rights):
        verbs, resource = right.split()
        namespace.kubectl("create", "role", f"r{number}", f"--verb={verbs}", f"--resource={resource}")
        namespace.kubectl("create", "rolebinding", f"r{number}", f"--role=r{number}",
                          f"--serviceaccount={namespace.name}:user")  # fmt: skip
    return Plugin(namespace, directory, namespace.plane.service_account_kubeconfig(namespace.name, "user"))


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
