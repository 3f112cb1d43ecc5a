"""The programs of Kubernetes and Helm, built from their Go modules.

TEST_KUBERNETES (1.33) and TEST_HELM (3) select another version than the newest, pinned in a folder of its own.
"""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.controlplane.cache import build_once, cache_dir, run_with_progress
from tests.support.controlplane.go_toolchain import go

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Program:
    """A Go program: its package, the folder of the go.mod that pins it, and the variables that the linker sets.

    `release` names its folder in the cache, so that a new release is built again (etcd with Kubernetes).
    """

    package: str
    source: Path
    release: str
    variables: dict[str, str]
    usual_seconds: int


def pinned_version(source: Path, module: str) -> str:
    go_mod = (source / "go.mod").read_text()
    [version] = re.findall(rf"^\s*(?:require )?{re.escape(module)} (v\S+)", go_mod, re.MULTILINE)
    return str(version)


_MINOR = os.environ.get("TEST_KUBERNETES")
_CONTROL_PLANE = HERE / f"kubernetes-{_MINOR}" if _MINOR else HERE


def _kubernetes(package: str, usual_seconds: int, source: Path = HERE) -> Program:
    release = pinned_version(source, "k8s.io/kubernetes")
    # Without these the server reports v0.0.0-master, which kubectl and Helm misinterpret.
    major, minor, _ = release.removeprefix("v").split(".")
    version = {"gitVersion": release, "gitMajor": major, "gitMinor": minor}
    variables = {f"k8s.io/component-base/version.{key}": value for key, value in version.items()}
    return Program(package, source, f"kubernetes-{release}", variables, usual_seconds)


def _helm(major: str) -> Program:
    source, module = HERE / ("helm3" if major == "3" else "helm"), f"helm.sh/helm/v{major}"
    release = pinned_version(source, module)
    variables = {f"{module}/internal/version.version": release}
    if major == "3":
        # The version of Kubernetes to assume without a cluster. Helm 4 reads it from its build information.
        _, minor, _ = pinned_version(source, "k8s.io/client-go").split(".")
        variables |= {f"{module}/pkg/{package}.k8sVersionMinor": minor for package in ("chartutil", "lint/rules")}
    return Program(f"{module}/cmd/helm", source, f"helm-{release}", variables, 120)


PROGRAMS = {
    "etcd": _kubernetes("go.etcd.io/etcd/server/v3", 60),
    "kube-apiserver": _kubernetes("k8s.io/kubernetes/cmd/kube-apiserver", 270, _CONTROL_PLANE),
    "kube-controller-manager": _kubernetes("k8s.io/kubernetes/cmd/kube-controller-manager", 100, _CONTROL_PLANE),
    "helm": _helm(os.environ.get("TEST_HELM", "4")),
}
# `python -m tests.support.node build` builds these where a node can be started.
NODE_PROGRAMS = {
    "kubelet": _kubernetes("k8s.io/kubernetes/cmd/kubelet", 80),
    "kube-proxy": _kubernetes("k8s.io/kubernetes/cmd/kube-proxy", 25),
    "kube-scheduler": _kubernetes("k8s.io/kubernetes/cmd/kube-scheduler", 30),
}


def binary(name: str) -> Path:
    """Return the path of kubectl or of a program: from KUBEBUILDER_ASSETS, else from the cache, else built now."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (path := Path(assets) / name).is_file():
        return path
    if name == "kubectl":
        return Path(sys.executable).with_name(name)
    program = (PROGRAMS | NODE_PROGRAMS)[name]
    return build_once(cache_dir() / program.release / name, lambda path: build(program, path))


def build(program: Program, path: Path) -> None:
    variables = " ".join(f"-X {variable}={value}" for variable, value in program.variables.items())
    flags = ["-trimpath", "-ldflags", f"-s -w {variables}", "-o", str(path)]
    command = [go(program.source), "build", *flags, program.package]
    run_with_progress(path.name, command, program.usual_seconds, program.source, {"CGO_ENABLED": "0"})
