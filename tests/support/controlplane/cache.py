"""What takes minutes to make is made once, visibly, and kept outside the repository."""

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

STILL_AT_IT_SECONDS = 10


class BuildError(RuntimeError):
    """A command that makes something failed; the message ends with its last words."""


def cache_dir() -> Path:
    """Name the folder that keeps what was made, whatever becomes of this checkout."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keyturn"


def build_once(path: Path, make: Callable[[Path], None]) -> Path:
    """Have `make(path)` called unless `path` is there, by one process at a time.

    It makes a file or a folder elsewhere, which is then renamed: an interrupted one is never seen.
    """
    if path.exists():
        return path
    with file_lock(path.with_name(f".{path.name}.lock"), path.name):
        if not path.exists():
            unfinished = path.with_name(f".{path.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished / path.name)
            (unfinished / path.name).rename(path)
            unfinished.rmdir()
    return path


def run_with_progress(
    name: str, command: list[str], usual_seconds: int, folder: Path, environment: dict[str, str]
) -> None:
    """Run a command of minutes in `folder`, telling on stderr every ten seconds that it still runs."""
    log(f"{name}: being made, once; this usually takes {usual_seconds} s")
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        with subprocess.Popen(
            die_with_parent(command),  # a build that outlived us would write where the next one does
            cwd=folder,
            env=os.environ | environment,
            stdin=DEVNULL,
            stdout=output,
            stderr=STDOUT,
        ) as process:
            while _still_runs(process):
                log(f"{name}: {time.monotonic() - began:.0f} s so far, of about {usual_seconds} s")
        output.seek(0)
        if process.returncode:
            raise BuildError(f"{name}: {' '.join(command)} failed:\n{output.read()[-2000:]}")
    log(f"{name}: made in {time.monotonic() - began:.0f} s")


def _still_runs(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(STILL_AT_IT_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


@contextmanager
def file_lock(path: Path, name: str = "") -> Iterator[None]:
    """Be the only process in here that holds the lock file `path`; `name` says what another one makes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        _wait_for(lock.fileno(), name or str(path.parent))
        yield


def _wait_for(lock: int, name: str) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log(f"{name}: waiting for another process that makes it")
        fcntl.flock(lock, fcntl.LOCK_EX)


def log(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
