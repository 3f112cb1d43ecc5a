"""The programs of a Kubernetes, built from their Go modules."""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.controlplane.cache import build_once, cache_dir, run_with_progress
from tests.support.controlplane.go_toolchain import go


@dataclass(frozen=True, slots=True)
class Program:
    """A Go program: the package, the folder of the go.mod that pins it, and how it is stamped."""

    package: str
    source: Path
    release: str  # names its folder in the cache_dir: a new release is built anew (etcd with Kubernetes)
    stamp: dict[str, str]
    usual_seconds: int


def pinned_version(source: Path, module: str) -> str:
    """Read the version of a module off the go.mod in `source`."""
    [version] = re.findall(
        rf"^\s*(?:require )?{re.escape(module)} (v\S+)", (source / "go.mod").read_text(), re.MULTILINE
    )
    return str(version)


HERE = Path(__file__).parent
KUBERNETES = pinned_version(HERE, "k8s.io/kubernetes")
HELM = pinned_version(HERE / "helm", "helm.sh/helm/v4")


def _kubernetes(package: str, usual_seconds: int) -> Program:
    # Without these the server calls itself v0.0.0-master, and kubectl and Helm misjudge it.
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    version = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor}
    stamp = {f"k8s.io/component-base/version.{key}": value for key, value in version.items()}
    return Program(package, HERE, f"kubernetes-{KUBERNETES}", stamp, usual_seconds)


PROGRAMS = {
    "etcd": _kubernetes("go.etcd.io/etcd/server/v3", 60),
    "kube-apiserver": _kubernetes("k8s.io/kubernetes/cmd/kube-apiserver", 270),
    "kube-controller-manager": _kubernetes("k8s.io/kubernetes/cmd/kube-controller-manager", 100),
    "helm": Program(
        "helm.sh/helm/v4/cmd/helm",
        HERE / "helm",
        f"helm-{HELM}",
        {"helm.sh/helm/v4/internal/version.version": HELM},
        120,
    ),
}
# What a node runs; `python -m tests.support.node build` makes them where one can be started.
NODE_PROGRAMS = {
    "kubelet": _kubernetes("k8s.io/kubernetes/cmd/kubelet", 80),
    "kube-proxy": _kubernetes("k8s.io/kubernetes/cmd/kube-proxy", 25),
    "kube-scheduler": _kubernetes("k8s.io/kubernetes/cmd/kube-scheduler", 30),
}


def binary(name: str) -> Path:
    """Find kubectl or a program of ours: in KUBEBUILDER_ASSETS, else in the cache_dir, else build it."""
    given = os.environ.get("KUBEBUILDER_ASSETS")
    if given and (path := Path(given) / name).is_file():
        return path
    if name == "kubectl":
        return Path(sys.executable).with_name(name)
    program = (PROGRAMS | NODE_PROGRAMS)[name]
    return build_once(cache_dir() / program.release / name, lambda path: build(program, path))


def build(program: Program, path: Path) -> None:
    """Build a program into the file `path`."""
    stamp = " ".join(f"-X {variable}={value}" for variable, value in program.stamp.items())
    flags = ["-trimpath", "-ldflags", f"-s -w {stamp}", "-o", str(path)]
    command = [go(program.source), "build", *flags, program.package]
    run_with_progress(path.name, command, program.usual_seconds, program.source, {"CGO_ENABLED": "0"})
