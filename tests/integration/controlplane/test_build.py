import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.controlplane.build import HELM, KUBERNETES, Program, binary, build
from tests.support.controlplane.cache import BuildError, build_once

ENVTEST = "etcd", "kube-apiserver", "kubectl"
OURS = pytest.mark.skipif("KUBEBUILDER_ASSETS" in os.environ, reason="KUBEBUILDER_ASSETS: they are not ours")


@pytest.fixture
def hello(tmp_path: Path) -> Program:
    """A Go program of three lines."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "go.mod").write_text("module example.com/hello\n\ngo 1.26.0\n")
    (source / "main.go").write_text('package main\n\nvar version = "none"\n\nfunc main() { print(version) }\n')
    return Program(".", source, "hello", {"main.version": "v7"}, usual_seconds=1)


@OURS
@pytest.mark.cluster
@pytest.mark.parametrize(
    ("command", "version"),
    [
        pytest.param(["etcd", "--version"], "etcd Version: 3.", id="etcd"),
        pytest.param(["kube-apiserver", "--version"], f"Kubernetes {KUBERNETES}", id="kube-apiserver"),
        pytest.param(["kube-controller-manager", "--version"], f"Kubernetes {KUBERNETES}", id="the controllers"),
        pytest.param(["helm", "version"], f'Version:"{HELM}"', id="helm"),
        pytest.param(["kubectl", "version", "--client"], "Client Version: v1.", id="kubectl"),
    ],
)
def test_each_program_says_its_version(command: list[str], version: str) -> None:
    name, *arguments = command

    assert version in subprocess.check_output([binary(name), *arguments], text=True)


def test_a_program_is_built_and_stamped(hello: Program, tmp_path: Path) -> None:
    build(hello, tmp_path / "hello")

    assert subprocess.run([tmp_path / "hello"], capture_output=True, check=True).stderr == b"v7"


def test_a_build_that_fails_shows_what_the_compiler_says(hello: Program, tmp_path: Path) -> None:
    (hello.source / "main.go").write_text("package main\n\nfunc main() { undefined() }\n")

    with pytest.raises(BuildError, match="undefined: undefined"):
        build(hello, tmp_path / "hello")


@pytest.mark.long
@pytest.mark.parametrize("found", ["no-go", "go"], ids=["no go", "a go that is too old"])
def test_without_a_go_that_can_build_one_comes_from_pypi(
    found: str, hello: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / found).write_text("#!/bin/sh\necho 'go.mod requires go >= 1.26.0' >&2\nexit 1\n")
    (tmp_path / found).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/nonexistent")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    build(hello, tmp_path / "hello")

    assert subprocess.run([tmp_path / "hello"], capture_output=True, check=True).stderr == b"v7"
    assert list((tmp_path / "cache" / "keyturn").glob("go-1.*"))


@pytest.mark.parametrize("name", ENVTEST)
def test_given_programs_are_taken(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))

    assert binary(name) == tmp_path / name


@OURS
@pytest.mark.cluster
@pytest.mark.parametrize("name", ENVTEST)
def test_what_is_not_given_is_our_own(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = binary(name)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))

    assert binary(name) == own


def test_two_that_need_the_same_make_it_once(tmp_path: Path) -> None:
    made: list[Path] = []
    both_asked = threading.Barrier(2)

    def make(path: Path) -> None:
        made.append(path)
        time.sleep(0.3)
        path.touch()

    def ask() -> Path:
        both_asked.wait()
        return build_once(tmp_path / "thing", make)

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask) for _ in range(2)]

    assert [each.result().is_file() for each in asked] == [True, True]
    assert len(made) == 1


def test_what_was_interrupted_is_made_anew(tmp_path: Path) -> None:
    def interrupted(path: Path) -> None:
        path.write_text("half of it")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once(tmp_path / "thing", interrupted)

    assert build_once(tmp_path / "thing", lambda path: path.touch()).read_text() == ""
