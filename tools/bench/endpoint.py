"""Measures the credentials endpoint (throughput, memory, start time) and the credential process."""

import functools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median

from keyturn.cli import now
from tests.support.cluster.namespace import token_request
from tests.support.emulator.client import running_emulator
from tests.support.kubelet_mount import process, swap
from tests.support.processes import until
from tests.support.sidecar_process import Sidecar, running_sidecar
from tests.support.standalone_process import StandaloneDirectory, is_ready, renewals, with_renew_request
from tools.bench import usage
from tools.bench.table import Table

_ROOT = Path(__file__).parents[2]
_REQUESTS = 100_000
_RATE, _AT_FIXED_RATE = 2000, 30_000
_STARTS = 11
_RENEWALS = 100

Running = Callable[[Path], AbstractContextManager[Sidecar]]


async def endpoint_reader(table: Table) -> None:
    """Measure reader mode."""
    _endpoint(table, "reader", _reader, mib=28, ready_ms=300)


async def endpoint_standalone(table: Table) -> None:
    """Measure standalone mode: the same endpoint in a process that also renews."""
    _endpoint(table, "standalone", _standalone, mib=65, ready_ms=None)


async def standalone_renewals(table: Table) -> None:
    """Measure the memory after a hundred renewals."""
    with tempfile.TemporaryDirectory(prefix="keyturn-bench-") as temporary, running_emulator() as aws:
        place = StandaloneDirectory(Path(temporary), aws)
        place.write_flagship()
        with place.running() as sidecar:
            for number in range(_RENEWALS):
                until(functools.partial(_has_renewed, sidecar, number))
                place.write_manifest(with_renew_request(token_request(), number))
            memory = usage.memory_mib(sidecar.process.pid)
        table.add(f"standalone: memory after {_RENEWALS} renewals", memory, "MiB", at_most=65)


def _has_renewed(sidecar: Sidecar, number: int) -> bool:
    return renewals(sidecar) > number


@contextmanager
def _standalone(directory: Path) -> Iterator[Sidecar]:
    with running_emulator() as aws:
        place = StandaloneDirectory(directory, aws)
        place.write_flagship()
        with place.running() as sidecar:
            until(lambda: is_ready(sidecar))
            yield sidecar


async def credential_process(table: Table) -> None:
    """Measure the time from exec to exit."""
    with tempfile.TemporaryDirectory(prefix="keyturn-bench-") as directory:
        _mount(Path(directory))
        command = [sys.executable, "-m", "keyturn", "credential-process", f"--secret-dir={directory}"]
        durations = []
        for _ in range(_STARTS):
            began = time.perf_counter()
            subprocess.run(command, cwd=_ROOT, check=True, capture_output=True)  # noqa: ASYNC221 - nothing else runs
            durations.append(time.perf_counter() - began)
    table.add("credential-process: median of its runs", median(durations) * 1000, "ms", at_most=100)


def _reader(directory: Path) -> AbstractContextManager[Sidecar]:
    _mount(directory / "secret")
    return running_sidecar(directory, f"--secret-dir={directory / 'secret'}", _token(directory))


def _token(directory: Path) -> str:
    return f"--authorization-file={directory / 'token'}"


def _mount(directory: Path) -> None:
    swap(directory, process(1, now() + timedelta(hours=1)))


def _endpoint(table: Table, name: str, running: Running, *, mib: float, ready_ms: float | None) -> None:
    with tempfile.TemporaryDirectory(prefix="keyturn-bench-") as temporary:
        directory = Path(temporary)
        with running(directory) as sidecar:
            table.add(f"{name}: memory at first", usage.memory_mib(sidecar.process.pid), "MiB")
            _unlimited(table, name, sidecar, directory)
            _fixed_rate(table, name, sidecar, directory)
            pid = sidecar.process.pid
            table.add(
                f"{name}: memory after {_REQUESTS + _AT_FIXED_RATE} requests",
                usage.memory_mib(pid),
                "MiB",
                at_most=mib,
            )
            table.add(f"{name}: peak memory", usage.memory_mib(pid, peak=True), "MiB")
            duration = median(_ready_after(sidecar) for _ in range(_STARTS))
            table.add(f"{name}: ready after, median", duration * 1000, "ms", at_most=ready_ms)


def _unlimited(table: Table, name: str, sidecar: Sidecar, directory: Path) -> None:
    cpu, others = usage.cpu_seconds(sidecar.process.pid), usage.machine_cpu_seconds()
    result = _load(sidecar, directory, _REQUESTS)
    cpu = usage.cpu_seconds(sidecar.process.pid) - cpu
    others = usage.machine_cpu_seconds() - others - cpu - result["cpu"]
    name = f"{name}: 50 connections"
    table.add(f"{name}, CPU of the endpoint", cpu / _REQUESTS * 1e6, "us each")
    table.add(f"{name}, other work on this machine", others / result["seconds"], "cores")
    _latency(table, name, result)


def _fixed_rate(table: Table, name: str, sidecar: Sidecar, directory: Path) -> None:
    name = f"{name}: {_RATE} a second"
    _latency(table, name, _load(sidecar, directory, _AT_FIXED_RATE, _RATE), p99_ms=5)


def _latency(table: Table, name: str, result: dict[str, float], p99_ms: float | None = None) -> None:
    table.add(f"{name}, p50", result["p50"] * 1000, "ms")
    table.add(f"{name}, p99", result["p99"] * 1000, "ms", at_most=p99_ms)
    table.add(f"{name}, longest", result["max"] * 1000, "ms")
    table.add(f"{name}, refused", result["refused"], "", exactly=0)


def _load(sidecar: Sidecar, directory: Path, requests: int, rate: float = 0) -> dict[str, float]:
    command = [sys.executable, "-m", "tools.bench.load", sidecar.credentials, str(directory / "token")]
    command += [str(requests), str(rate)]
    ran = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True, timeout=400)
    result: dict[str, float] = json.loads(ran.stdout)
    return result


def _ready_after(sidecar: Sidecar) -> float:
    """Restart the sidecar; returns the time from exec until /readyz succeeds."""
    sidecar.stop()
    began = time.perf_counter()
    sidecar.spawn()
    while not _is_ready(sidecar):
        time.sleep(0.002)
    return time.perf_counter() - began


def _is_ready(sidecar: Sidecar) -> bool:
    try:
        return sidecar.get("/readyz")[0] == 200
    except OSError:
        return False
