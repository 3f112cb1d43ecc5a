"""The CRDs of prometheus-operator, from its Go module."""

import json
import subprocess
import tempfile
from pathlib import Path

from tests.support.controlplane.build import HERE
from tests.support.controlplane.cache import build_once, cache_dir
from tests.support.controlplane.go_toolchain import go

MODULE, VERSION = "github.com/prometheus-operator/prometheus-operator", "v0.85.0"
SUM = "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="
KINDS = ("podmonitors", "prometheusrules", "servicemonitors")


def crd_files() -> list[Path]:
    """The files of the CRDs that the chart's objects need."""
    folder = build_once(cache_dir() / f"prometheus-operator-{VERSION}", _fetch)
    return [folder / f"{kind}.yaml" for kind in KINDS]


def _fetch(folder: Path) -> None:
    """Download the module, which is not built, and keep these files of it."""
    with tempfile.TemporaryDirectory() as nowhere:  # in a module's folder the module would be looked for there
        command = [go(HERE), "mod", "download", "-json", f"{MODULE}@{VERSION}"]
        done = subprocess.run(command, cwd=nowhere, capture_output=True, text=True, timeout=300, check=True)
    told = json.loads(done.stdout)
    if told["Sum"] != SUM:
        raise RuntimeError(f"{MODULE}@{VERSION} is {told['Sum']}, not {SUM}")
    folder.mkdir()
    for kind in KINDS:
        found = Path(told["Dir"], "example", "prometheus-operator-crd", f"monitoring.coreos.com_{kind}.yaml")
        (folder / f"{kind}.yaml").write_text(found.read_text())
