"""The chart as Kubernetes objects, by Helm."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.controlplane import binary

CHART = Path(__file__).parents[3] / "charts" / "keyturn"
# The templates that an operator needs which runs outside of the cluster.
RIGHTS = ("crds", "serviceaccount", "rbac")
# What Helm knows of a cluster with Kubernetes 1.36, which it is not asked to look at.
NEWEST = ("admissionregistration.k8s.io/v1/MutatingAdmissionPolicy",)
Values = Mapping[str, Any]


class HelmError(RuntimeError):
    """Helm refused; the message has its command and what it said."""


def chart_objects(
    values: Values | None = None,
    *,
    release: str = "keyturn",
    namespace: str = "keyturn",
    only: Sequence[str] = (),
    serves: Sequence[str] = NEWEST,
) -> str:
    """Render the YAML of a release for a cluster that serves these kinds, or only the templates `only` names."""
    show = [argument for name in only for argument in ("--show-only", f"templates/{name}.yaml")]
    known = [f"--api-versions={kind}" for kind in serves]
    return helm("template", release, str(CHART), "--namespace", namespace, *show, *known, values=values)


def helm(*arguments: str, values: Values | None = None, kubeconfig: Path | None = None) -> str:
    """Run Helm and return what it printed. Raises HelmError."""
    command = [str(binary("helm")), *arguments]
    if values is not None:
        command += ["--values", "-"]
    if kubeconfig is not None:
        command += ["--kubeconfig", str(kubeconfig)]
    stdin = json.dumps(values)
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise HelmError(f"helm {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
