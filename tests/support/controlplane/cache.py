"""A cache outside the repository for what takes long to build or download."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, STDOUT

from tests.support.controlplane.parent_death import die_with_parent

_PROGRESS_SECONDS = 10


class BuildError(RuntimeError):
    """A build command failed; the message ends with the end of its output."""


def cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keyturn"


def build_once(path: Path, build: Callable[[Path], None]) -> Path:
    """Call `build(path)` unless `path` exists; only one process does at a time.

    It builds a file or folder elsewhere, which is then renamed: an interrupted build leaves nothing at `path`.
    """
    if path.exists():
        return path
    with file_lock(path.with_name(f".{path.name}.lock"), path.name):
        if not path.exists():
            unfinished = path.with_name(f".{path.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            build(unfinished / path.name)
            (unfinished / path.name).rename(path)
            unfinished.rmdir()
    return path


def run_with_progress(
    name: str, command: list[str], usual_seconds: int, folder: Path, environment: dict[str, str]
) -> None:
    """Run a command in `folder` and log every ten seconds that it still runs; raises BuildError."""
    log(f"{name}: building once; this usually takes {usual_seconds} s")
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        with subprocess.Popen(
            die_with_parent(command),  # a build that survives would write where the next one writes
            cwd=folder,
            env=os.environ | environment,
            stdin=DEVNULL,
            stdout=output,
            stderr=STDOUT,
        ) as process:
            while _is_running(process):
                log(f"{name}: {time.monotonic() - start:.0f} s so far, of about {usual_seconds} s")
        output.seek(0)
        if process.returncode:
            raise BuildError(f"{name}: {' '.join(command)} failed:\n{output.read()[-2000:]}")
    log(f"{name}: built in {time.monotonic() - start:.0f} s")


def _is_running(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_PROGRESS_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


@contextmanager
def file_lock(path: Path, name: str = "") -> Iterator[None]:
    """Hold the lock file `path`; while another process does, log that it builds `name`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"{name or path.parent}: waiting for another process that builds it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def log(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
