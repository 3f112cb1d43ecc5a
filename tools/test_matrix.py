"""Runs the tests on other versions of Python, Kubernetes and Helm: python -m tools.test_matrix [PART ...].

The parts are, for example, python-3.13, kubernetes-1.33 and helm-3. Without arguments, all parts run.
The control planes and Helm are built from their Go modules, once.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.controlplane.build import HERE

ROOT = Path(__file__).parents[1]
_BIN = Path(sys.executable).parent
_PYTHONS = ("3.13", "3.14")
# Tests of the packages call uv, which bootstrap.txt contains.
_REQUIREMENTS = ("requirements/bootstrap.txt", "requirements/dev.txt")
_MINORS = sorted(path.name.removeprefix("kubernetes-") for path in HERE.glob("kubernetes-*"))
_CHART_TESTS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "e2e").glob("test_chart*.py"))
# Sidecar injection requires Kubernetes 1.36. The others need a node, or measure what does not depend on the version.
_OTHER_TESTS = ("injection", "image", "memory", "memory_limit", "request_counts", "soak", "sdks", "keycloak")
PARTS = (
    *(f"python-{version}" for version in _PYTHONS), *(f"kubernetes-{minor}" for minor in _MINORS), "helm-3",
)  # fmt: skip


def run(part: str) -> str:
    """Run a part and return its result, the last line of pytest."""
    kind, version = part.split("-")
    if kind == "python":
        return _python(version)
    if kind == "helm":
        return _pytest(_BIN / "python", *_CHART_TESTS, "tests/e2e/test_subchart.py", TEST_HELM=version)
    ignored = (f"--ignore=tests/e2e/test_{name}.py" for name in _OTHER_TESTS)
    selected = ("tests/e2e", "tests/integration/controlplane", "-m", "cluster and not node and not long")
    return _pytest(_BIN / "python", *selected, *ignored, TEST_KUBERNETES=version)


def _python(version: str) -> str:
    """Run the tests that need no cluster in a virtual environment of the interpreter."""
    interpreter = shutil.which(f"python{version}")
    if not interpreter or subprocess.run([interpreter, "-c", ""], capture_output=True, check=False).returncode:
        return f"not run: python{version} is not installed"
    directory = ROOT / "build" / "matrix" / f"python-{version}"
    python = directory / "bin" / "python"
    for command in (
        ("venv", "--clear", "--python", interpreter, str(directory)),
        ("pip", "sync", "--python", str(python), "--require-hashes", *_REQUIREMENTS),
        ("pip", "install", "--python", str(python), "--no-deps", "--editable", "."),
    ):
        subprocess.run([_BIN / "uv", *command, "--quiet"], cwd=ROOT, check=True)
    return _pytest(python, "tests/unit", "tests/integration", "-m", "not cluster and not node and not long")


def _pytest(python: Path, *arguments: str, **variables: str) -> str:
    command = [str(python), "-m", "pytest", "-q", "-n", "2", "--dist=loadfile", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | variables
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        *_, last = _echoed(process.stdout)
    return re.sub(r" in [\d.]+s.*", "", last).strip("= \n")


def _echoed(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        print(line, end="", flush=True)
        yield line


def main(*parts: str) -> int:
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; the parts are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    results = {}
    for part in parts or PARTS:
        start = time.monotonic()
        results[part] = f"{run(part)} ({(time.monotonic() - start) / 60:.0f} min)"
    print("\n| part | result |\n|---|---|")
    print("".join(f"| {part} | {result} |\n" for part, result in results.items()), end="")
    return int(any("failed" in result or "error" in result for result in results.values()))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
