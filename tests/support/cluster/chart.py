"""The chart, rendered and installed by Helm."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.controlplane import binary

CHART = Path(__file__).parents[3] / "charts" / "keyturn"
# The templates that an operator outside the cluster needs.
RIGHTS = ("crds", "serviceaccount", "rbac")
# What a cluster with Kubernetes 1.36 serves. `helm template` does not contact a cluster.
NEWEST = ("admissionregistration.k8s.io/v1/MutatingAdmissionPolicy",)
Values = Mapping[str, Any]
_IMAGE = {"repository": "keyturn"}


class HelmError(RuntimeError):
    """Helm failed; the message contains the command and its stderr."""


def chart_objects(
    values: Values | None = None,
    *,
    release: str = "keyturn",
    namespace: str = "keyturn",
    only: Sequence[str] = (),
    serves: Sequence[str] = NEWEST,
    chart: Path = CHART,
) -> str:
    """Render a release as YAML, or only the templates in `only`, for a cluster that serves these kinds."""
    show = [argument for name in only for argument in ("--show-only", f"templates/{name}.yaml")]
    api_versions = [f"--api-versions={kind}" for kind in serves]
    return helm("template", release, str(chart), "--namespace", namespace, *show, *api_versions, values=values or {})


def parent_chart(directory: Path, *aliases: str) -> Path:
    """Create a chart that contains Keyturn's once for each alias, each with the condition ALIAS.enabled."""
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    keyturn = {"name": "keyturn", "version": version, "repository": f"file://{CHART}"}
    dependencies = [keyturn | {"alias": alias, "condition": f"{alias}.enabled"} for alias in aliases]
    metadata = {"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": dependencies}
    (directory / "Chart.yaml").write_text(yaml.safe_dump(metadata))
    (directory / "values.yaml").write_text(yaml.safe_dump({alias: {"image": _IMAGE} for alias in aliases}))
    helm("dependency", "update", str(directory))
    return directory


def helm(*arguments: str, values: Values | None = None, kubeconfig: Path | None = None) -> str:
    """Run Helm and return its stdout. Raises HelmError.

    With `values`, the image that the chart requires has a default.
    """
    command = [str(binary("helm")), *arguments]
    if values is not None:
        command += ["--values", "-"]
    if kubeconfig is not None:
        command += ["--kubeconfig", str(kubeconfig)]
    stdin = json.dumps({**(values or {}), "image": {**_IMAGE, **(values or {}).get("image", {})}})
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise HelmError(f"helm {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
