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
    """Return the CRDs of the kinds that the chart creates."""
    folder = build_once(cache_dir() / f"prometheus-operator-{VERSION}", _download)
    return [folder / f"{kind}.yaml" for kind in KINDS]


def _download(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as outside_of_any_module:
        command = [go(HERE), "mod", "download", "-json", f"{MODULE}@{VERSION}"]
        module = json.loads(subprocess.check_output(command, cwd=outside_of_any_module, timeout=300))
    if module["Sum"] != SUM:
        raise RuntimeError(f"{MODULE}@{VERSION} has the sum {module['Sum']}, not {SUM}")
    folder.mkdir()
    for kind in KINDS:
        crd = Path(module["Dir"], "example", "prometheus-operator-crd", f"monitoring.coreos.com_{kind}.yaml")
        (folder / f"{kind}.yaml").write_text(crd.read_text())
