"""The CRDs of prometheus-operator, from its Go module."""

import json
import subprocess
import tempfile
from pathlib import Path

from tests.support.controlplane.build import HERE
from tests.support.controlplane.cache import cache, made_once
from tests.support.controlplane.golang import go

MODULE, VERSION = "github.com/prometheus-operator/prometheus-operator", "v0.85.0"
SUM = "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="
KINDS = ("podmonitors", "prometheusrules", "servicemonitors")


def crds() -> list[Path]:
    """The paths of the CRDs that the chart's objects need."""
    folder = made_once(cache() / f"prometheus-operator-{VERSION}", _fetch)
    return [folder / f"{kind}.yaml" for kind in KINDS]


def _fetch(folder: Path) -> None:
    """Download the module and keep only the CRDs."""
    with tempfile.TemporaryDirectory() as outside:  # inside a module, Go would look for this one in its requirements
        command = [go(HERE), "mod", "download", "-json", f"{MODULE}@{VERSION}"]
        done = subprocess.run(command, cwd=outside, capture_output=True, text=True, timeout=300, check=True)
    module = json.loads(done.stdout)
    if module["Sum"] != SUM:
        raise RuntimeError(f"{MODULE}@{VERSION} is {module['Sum']}, not {SUM}")
    folder.mkdir()
    for kind in KINDS:
        crd = Path(module["Dir"], "example", "prometheus-operator-crd", f"monitoring.coreos.com_{kind}.yaml")
        (folder / f"{kind}.yaml").write_text(crd.read_text())
