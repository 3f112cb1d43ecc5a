"""python -m tests.support.crash_points FOLDER: one renewal per file-system call, killed just before that call.

Each renewal is a process of its own that kills itself (SIGKILL), in a folder of its own. Then a next process works
on for some hours. What is found is told as a line of JSON for each.
"""

import asyncio
import itertools
import json
import os
import pickle
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from keyturn.api.token_request import Request
from keyturn.core.issuance import ISSUANCE_ANNOTATION, data_hash, read_issuance
from keyturn.core.state import ReconcileState
from keyturn.standalone.atomic_dir import Folder
from keyturn.standalone.file_store import ISSUANCE_FILE, FileStore, Issued
from keyturn.standalone.runner import token_locks
from keyturn.standalone.source_files import Sources
from keyturn.standalone.token_files import FileTokens
from tests.support.dependencies import HOUR, MINUTE, SECOND, Attempt, Outside, attempt, once, rotating
from tests.support.mounts import put
from tests.support.rotation import RotatingIssuer

CALLS = {
    *("open", "write", "ftruncate", "fchmod", "chmod", "fsync"),
    *("replace", "rename", "unlink", "rmdir", "mkdir", "symlink"),
}
FORMATS: dict[str, Any] = {"formats": [{"credentialProcess": {}}]}
REQUESTS = {"refresh token": rotating(target=FORMATS), "code": once(target=FORMATS)}
DUE = 45 * MINUTE


class Life:
    """What a process does with the files of a folder; the issuer lives on in a file of its own."""

    def __init__(self, folder: Path, wanted: Request) -> None:
        self.folder = folder
        self.wanted = wanted
        self.outside = Outside()
        self.state = ReconcileState()
        self._issuer = folder / "issuer"
        if self._issuer.exists():
            self.outside.aws.issuer = pickle.loads(self._issuer.read_bytes())  # noqa: S301 - our own
        self.outside.watch(self._remember)
        self.target = Folder(folder / "write")
        self.tokens = FileTokens(folder / "state")

    @property
    def issuer(self) -> RotatingIssuer:
        return self.outside.aws.issuer

    def tidy(self) -> None:
        """Begin as the sidecar does."""
        self.target.tidy()
        self.tokens.tidy()

    async def reconcile(self, after: timedelta = timedelta()) -> Attempt:
        """Look at the request, a while later."""
        self.outside.now += after
        store = FileStore(Sources(self.folder / "sources"), self.target, lambda _, __: None)
        holder = f"process-{os.getpid()}"
        deps = replace(
            self.outside.deps, store=store, tokens=self.tokens, token_locks=token_locks(holder), holder=holder
        )
        done = await attempt(deps, self.wanted, self.state)
        self.state = done.reconciled.state
        return done

    async def _remember(self, where: str) -> None:
        if where.startswith("after "):
            Watch.paused = True
            self._issuer.write_bytes(pickle.dumps(self.issuer))
            Watch.paused = False


class Watch:
    """Counts the calls to the file system, and dies before the one that is `fatal`."""

    paused = False

    def __init__(self, fatal: int, told: int) -> None:
        self._fatal = fatal
        self._told = told
        self._numbers = itertools.count(1)

    def __call__(self, _: FrameType, event: str, arg: Any) -> None:
        """What sys.setprofile calls."""
        counts = event == "c_call" and arg.__module__ == "posix" and arg.__name__ in CALLS and not Watch.paused
        if counts and next(self._numbers) == self._fatal:
            Watch.paused = True
            os.write(self._told, arg.__name__.encode())
            os.kill(os.getpid(), signal.SIGKILL)


def in_a_process(work: Callable[[int], None]) -> str:
    """Do work in a process of its own; returns what it wrote before it ended or died."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        work(writing)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        told = stream.read()
    os.waitpid(child, 0)
    return told


def renew_and_die(folder: Path, wanted: Request, fatal: int, *, first: bool) -> str:
    """Renew, and die before a call; returns its name, nothing where there is no such call."""

    def work(told: int) -> None:
        life = Life(folder, wanted)
        if not first:
            life.outside.now += DUE
        watch = Watch(fatal, told)
        threading.setprofile(watch)
        sys.setprofile(watch)
        asyncio.run(life.reconcile())
        sys.setprofile(None)

    return in_a_process(work)


def found(folder: Path, wanted: Request) -> dict[str, Any]:
    """What lies there after the death."""
    life = Life(folder, wanted)
    life.tidy()
    kept = asyncio.run(life.tokens.read(wanted))
    files = life.target.read()
    issued = Issued(None, {}) if files is None else _issued(files)
    live = kept.value if kept else "seed"
    whole = issued.issuance is None or data_hash(issued.data, wanted) == issued.issuance.data_hash
    return {
        "lost": life.issuer.live != live,
        "intent": bool(kept and kept.family and kept.family.intent),
        "revision": issued.issuance.revision if issued.issuance else 0,
        "whole": whole and (files is None or issued.issuance is not None),
    }


def _issued(files: dict[str, str]) -> Issued:
    issuance = read_issuance({ISSUANCE_ANNOTATION: files[ISSUANCE_FILE]})
    return Issued(issuance, {key: files[key] for key in issuance.keys} if issuance else {})


def work_on(folder: Path, wanted: Request, *, first: bool) -> str:
    """Let the next process work for some hours; tells the reasons of its failures and what is kept in the end."""

    async def hours(life: Life) -> list[str]:
        reasons = []
        for after in (SECOND, 31 * SECOND, HOUR):
            outcome = await life.reconcile(after)
            reasons.append(outcome.failure.error.reason if outcome.failure else "")
        return reasons

    def work(told: int) -> None:
        life = Life(folder, wanted)
        life.tidy()
        life.outside.now += timedelta() if first else DUE
        reasons = asyncio.run(hours(life))
        kept = asyncio.run(life.tokens.read(wanted))
        left = sorted(path.name for name in ("write", "state") for path in (folder / name).iterdir())
        issuer = life.issuer
        says = {
            "reasons": reasons,
            "live": bool(kept and kept.value == issuer.live),
            "reuses": issuer.reuses,
            "left": [name for name in left if name.startswith("..") and name != "..data"],
        }
        os.write(told, json.dumps(says).encode())

    return in_a_process(work)


def lives(folder: Path, wanted: Request, *, first: bool) -> None:
    """Die at each call in turn."""
    prepare(folder / "0", wanted, first=first)
    for number in itertools.count(1):
        place = folder / str(number)
        shutil.copytree(folder / "0", place, symlinks=True)
        call = renew_and_die(place, wanted, number, first=first)
        after = found(place, wanted) | json.loads(work_on(place, wanted, first=first))
        print(json.dumps({"call": call, **after}), flush=True)
        if not call:
            return


def prepare(place: Path, wanted: Request, *, first: bool) -> None:
    """Put the sources there, and where it is not the first renewal, renew once."""
    put(place / "sources", "license", license_token="seed")
    put(place / "sources", "base", AWS_ACCESS_KEY_ID="AKIA", AWS_SECRET_ACCESS_KEY="key")
    put(place / "sources", "sign-in", code="seed")
    for name in ("write", "state"):
        (place / name).mkdir()
    if not first:
        in_a_process(lambda _: _reconcile(place, wanted))


def _reconcile(place: Path, wanted: Request) -> None:
    asyncio.run(Life(place, wanted).reconcile())


if __name__ == "__main__":
    lives(Path(sys.argv[1]), REQUESTS[sys.argv[2]], first=sys.argv[3] == "first")
