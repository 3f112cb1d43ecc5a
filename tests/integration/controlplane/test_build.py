import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.cases import cases
from tests.support.controlplane.build import HELM, KUBERNETES, Program, binary, build
from tests.support.controlplane.cache import BuildError, build_once

needs_own_binaries = pytest.mark.skipif("KUBEBUILDER_ASSETS" in os.environ, reason="KUBEBUILDER_ASSETS is set")
kubebuilder = pytest.mark.parametrize("name", ["etcd", "kube-apiserver", "kubectl"])


@pytest.fixture
def hello(tmp_path: Path) -> Program:
    """A Go program that prints its version."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "go.mod").write_text("module example.com/hello\n\ngo 1.26.0\n")
    (source / "main.go").write_text('package main\n\nvar version = "none"\n\nfunc main() { print(version) }\n')
    return Program(".", source, "hello", {"main.version": "v7"}, usual_seconds=1)


@needs_own_binaries
@pytest.mark.cluster
@cases(
    "command, version",
    {
        "etcd": ("etcd --version", "etcd Version: 3."),
        "kube-apiserver": ("kube-apiserver --version", f"Kubernetes {KUBERNETES}"),
        "kube-controller-manager": ("kube-controller-manager --version", f"Kubernetes {KUBERNETES}"),
        "helm": ("helm version", f'Version:"{HELM}"'),
        "kubectl": ("kubectl version --client", "Client Version: v1."),
    },
)
def test_program_reports_its_version(command: str, version: str) -> None:
    name, *arguments = command.split()

    assert version in subprocess.check_output([binary(name), *arguments], text=True)


def test_build_error_contains_the_compiler_output(hello: Program, tmp_path: Path) -> None:
    (hello.source / "main.go").write_text("package main\n\nfunc main() { undefined() }\n")

    with pytest.raises(BuildError, match="undefined: undefined"):
        build(hello, tmp_path / "hello")


@pytest.mark.long
@pytest.mark.parametrize("name", ["no-go", "go"], ids=["Go is missing", "Go is too old"])
def test_go_is_installed_from_pypi(name: str, hello: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_text("#!/bin/sh\necho 'go.mod requires go >= 1.26.0' >&2\nexit 1\n")
    (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/nonexistent")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    build(hello, tmp_path / "hello")

    assert subprocess.run([tmp_path / "hello"], capture_output=True, check=True).stderr == b"v7"
    assert list((tmp_path / "cache" / "keyturn").glob("go-1.*"))


@kubebuilder
def test_kubebuilder_assets_take_precedence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))

    assert binary(name) == tmp_path / name


@needs_own_binaries
@pytest.mark.cluster
@kubebuilder
def test_program_missing_from_kubebuilder_assets_is_built(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = binary(name)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))

    assert binary(name) == path


def test_concurrent_callers_build_once(tmp_path: Path) -> None:
    built: list[Path] = []
    building, proceed = threading.Event(), threading.Event()

    def build(path: Path) -> None:
        built.append(path)
        building.set()
        proceed.wait(10)
        path.touch()

    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(build_once, tmp_path / "thing", build)]
        building.wait(10)
        results.append(pool.submit(build_once, tmp_path / "thing", build))
        proceed.set()

    assert [result.result().is_file() for result in results] == [True, True]
    assert len(built) == 1


def test_interrupted_build_is_repeated(tmp_path: Path) -> None:
    def interrupted(path: Path) -> None:
        path.write_text("half of it")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once(tmp_path / "thing", interrupted)

    assert build_once(tmp_path / "thing", lambda path: path.touch()).read_text() == ""
