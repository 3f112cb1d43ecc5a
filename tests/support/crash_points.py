"""python -m tests.support.crash_points DIRECTORY CREDENTIAL WHEN: kill a renewal before each file-system call in turn.

Every renewal runs in a directory of its own, in a forked process that kills itself with SIGKILL. Then the parent
process reconciles for some hours. Each result is printed as a line of JSON; the last renewal was not killed.
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
from keyturn.standalone.atomic_files import AtomicDir
from keyturn.standalone.file_store import ISSUANCE_FILE, FileStore
from keyturn.standalone.runner import exclusive_token_locks
from keyturn.standalone.source_files import SourceFiles
from keyturn.standalone.token_files import TokenFiles
from tests.support.dependencies import HOUR, MINUTE, SECOND, Attempt, FakeEnvironment, attempt, rotating, single_use
from tests.support.mounts import put
from tests.support.rotation import RotatingIssuer

CALLS = {
    *("open", "write", "ftruncate", "fchmod", "chmod", "fsync"),
    *("replace", "rename", "unlink", "rmdir", "mkdir", "symlink"),
}
FORMATS: dict[str, Any] = {"formats": [{"credentialProcess": {}}]}
REQUESTS = {"refresh token": rotating(target=FORMATS), "code": single_use(target=FORMATS)}
DUE = 45 * MINUTE


class StandaloneProcess:
    """Reconciles with the files in a directory. The state of the issuer is in a file of its own."""

    def __init__(self, directory: Path, request: Request) -> None:
        self.directory = directory
        self.request = request
        self.env = FakeEnvironment()
        self.state = ReconcileState()
        self._issuer_file = directory / "issuer"
        if self._issuer_file.exists():
            self.env.aws.issuer = pickle.loads(self._issuer_file.read_bytes())  # noqa: S301 - trusted input
        self.env.watch(self._save_issuer)
        self.output = AtomicDir(directory / "output")
        self.tokens = TokenFiles(directory / "state")

    @property
    def issuer(self) -> RotatingIssuer:
        return self.env.aws.issuer

    def clean_up(self) -> None:
        """Start as keyturn does."""
        self.output.clean_up()
        self.tokens.clean_up()

    async def reconcile(self, after: timedelta = timedelta()) -> Attempt:
        """Reconcile once, some time later."""
        self.env.now += after
        store = FileStore(SourceFiles(self.directory / "sources"), self.output, lambda _, __: None)
        holder = f"process-{os.getpid()}"
        deps = replace(
            self.env.deps,
            store=store,
            tokens=self.tokens,
            token_locks=exclusive_token_locks(holder, self.tokens, self.request.namespace),
            holder=holder,
        )
        done = await attempt(deps, self.request, self.state)
        self.state = done.reconciled.state
        return done

    async def _save_issuer(self, point: str) -> None:
        if point.startswith("after "):
            CrashPoint.paused = True
            self._issuer_file.write_bytes(pickle.dumps(self.issuer))
            CrashPoint.paused = False


class CrashPoint:
    """Kills the process before the file-system call with this number, after writing its name to a pipe."""

    paused = False

    def __init__(self, number: int, pipe: int) -> None:
        self._number = number
        self._pipe = pipe
        self._numbers = itertools.count(1)

    def __call__(self, _: FrameType, event: str, arg: Any) -> None:
        """The callback of sys.setprofile."""
        counts = event == "c_call" and arg.__module__ == "posix" and arg.__name__ in CALLS and not CrashPoint.paused
        if counts and next(self._numbers) == self._number:
            CrashPoint.paused = True
            os.write(self._pipe, arg.__name__.encode())
            os.kill(os.getpid(), signal.SIGKILL)


def in_a_fork(work: Callable[[int], None]) -> str:
    """Do the work in a forked process, and return what it wrote to the pipe before it ended or was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        work(writing)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        output = stream.read()
    os.waitpid(child, 0)
    return output


def renew_and_crash(directory: Path, request: Request, number: int, *, first: bool) -> str:
    """Renew, and crash before a call. Return the name of the call, or nothing if there are fewer calls."""

    def work(pipe: int) -> None:
        process = StandaloneProcess(directory, request)
        if not first:
            process.env.now += DUE
        crash_point = CrashPoint(number, pipe)
        threading.setprofile(crash_point)
        sys.setprofile(crash_point)
        asyncio.run(process.reconcile())
        sys.setprofile(None)

    return in_a_fork(work)


async def inspect(directory: Path, request: Request) -> dict[str, Any]:
    """Describe the files after the crash."""
    process = StandaloneProcess(directory, request)
    process.clean_up()
    stored = await process.tokens.read(request)
    files = process.output.read()
    issuance = read_issuance({ISSUANCE_ANNOTATION: files[ISSUANCE_FILE]}) if files else None
    data = {key: files[key] for key in issuance.keys} if files and issuance else {}
    live = stored.value if stored else "seed"
    return {
        "lost": process.issuer.live != live,
        "intent": bool(stored and stored.family and stored.family.intent),
        "revision": issuance.revision if issuance else 0,
        "consistent": files is None or (issuance is not None and data_hash(data, request) == issuance.data_hash),
    }


async def run_next_process(directory: Path, request: Request, *, first: bool) -> dict[str, Any]:
    """Run another process for some hours. Return the reasons of its failures and what it stored."""
    process = StandaloneProcess(directory, request)
    process.clean_up()
    process.env.now += timedelta() if first else DUE
    reasons = []
    for after in (SECOND, 31 * SECOND, HOUR):
        outcome = await process.reconcile(after)
        reasons.append(outcome.failure_reason)
    stored = await process.tokens.read(request)
    entries = sorted(path.name for name in ("output", "state") for path in (directory / name).iterdir())
    return {
        "reasons": reasons,
        "live": bool(stored and stored.value == process.issuer.live),
        "reuses": process.issuer.reuses,
        "leftovers": [name for name in entries if name.startswith("..") and name != "..data"],
    }


def crash_at_each_call(root: Path, request: Request, *, first: bool) -> None:
    """Print the result of a crash at each call. `first` is whether it happens in the first renewal."""
    prepare(root / "0", request, first=first)
    for number in itertools.count(1):
        directory = root / str(number)
        shutil.copytree(root / "0", directory, symlinks=True)
        call = renew_and_crash(directory, request, number, first=first)
        result = asyncio.run(inspect(directory, request))
        result |= asyncio.run(run_next_process(directory, request, first=first))
        print(json.dumps({"call": call, **result}), flush=True)
        if not call:
            return


def prepare(directory: Path, request: Request, *, first: bool) -> None:
    """Write the sources and, unless the crash is in the first renewal, renew once."""
    put(directory / "sources", "license", license_token="seed")
    put(directory / "sources", "base", AWS_ACCESS_KEY_ID="AKIA", AWS_SECRET_ACCESS_KEY="key")
    put(directory / "sources", "sign-in", code="seed")
    for name in ("output", "state"):
        (directory / name).mkdir()
    if not first:
        asyncio.run(StandaloneProcess(directory, request).reconcile())


if __name__ == "__main__":
    crash_at_each_call(Path(sys.argv[1]), REQUESTS[sys.argv[2]], first=sys.argv[3] == "first")
