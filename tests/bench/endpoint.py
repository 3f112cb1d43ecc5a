"""What serves the SDKs of a pod: how fast, how large, how soon; and the credential process."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from statistics import median

from keyturn.cli.clock import now
from tests.bench import usage
from tests.bench.table import Table
from tests.sidecar.running import Sidecar, running_sidecar
from tests.unit.sidecar.mounting import process, swap

_ROOT = Path(__file__).parents[2]
_REQUESTS = 100_000
_RATE, _PACED = 2000, 30_000
_STARTS = 11

Running = Callable[[Path], AbstractContextManager[Sidecar]]


async def endpoint_reader(table: Table) -> None:
    """Reader mode."""
    _endpoint(table, "reader", _reader, mib=28, ready_ms=300)


async def credential_process(table: Table) -> None:
    """From exec to exit."""
    with tempfile.TemporaryDirectory(prefix="keyturn-bench-") as directory:
        _mount(Path(directory))
        command = [sys.executable, "-m", "keyturn", "credential-process", f"--secret={directory}"]
        spent = []
        for _ in range(_STARTS):
            began = time.perf_counter()
            subprocess.run(command, cwd=_ROOT, check=True, capture_output=True)  # noqa: ASYNC221 - nothing else runs
            spent.append(time.perf_counter() - began)
    table.add("credential-process: median of its runs", median(spent) * 1000, "ms", at_most=100)


def _reader(directory: Path) -> AbstractContextManager[Sidecar]:
    _mount(directory / "secret")
    return running_sidecar(directory, f"--secret={directory / 'secret'}", _token(directory))


def _token(directory: Path) -> str:
    return f"--authorization-file={directory / 'token'}"


def _mount(directory: Path) -> None:
    swap(directory, process(1, now() + timedelta(hours=1)))


def _endpoint(table: Table, name: str, running: Running, *, mib: float, ready_ms: float) -> None:
    with tempfile.TemporaryDirectory(prefix="keyturn-bench-") as made:
        directory = Path(made)
        with running(directory) as sidecar:
            table.add(f"{name}: memory at first", usage.memory_mib(sidecar.process.pid), "MiB")
            _as_fast_as_it_can(table, name, sidecar, directory)
            _paced(table, name, sidecar, directory)
            pid = sidecar.process.pid
            table.add(
                f"{name}: memory after {_REQUESTS + _PACED} requests", usage.memory_mib(pid), "MiB", at_most=mib
            )
            table.add(f"{name}: peak memory", usage.memory_mib(pid, peak=True), "MiB")
            spent = median(_ready_after(sidecar) for _ in range(_STARTS))
            table.add(f"{name}: ready after, median", spent * 1000, "ms", at_most=ready_ms)


def _as_fast_as_it_can(table: Table, name: str, sidecar: Sidecar, directory: Path) -> None:
    cpu, others = usage.cpu_seconds(sidecar.process.pid), usage.machine_cpu_seconds()
    told = _load(sidecar, directory, _REQUESTS)
    cpu = usage.cpu_seconds(sidecar.process.pid) - cpu
    others = usage.machine_cpu_seconds() - others - cpu - told["cpu"]
    name = f"{name}: 50 connections"
    table.add(name, _REQUESTS / told["seconds"], "/s", at_least=8000)
    table.add(f"{name}, CPU of the endpoint", cpu / _REQUESTS * 1e6, "us each")
    table.add(f"{name}, other work on this machine", others / told["seconds"], "cores")
    _latency(table, name, told)


def _paced(table: Table, name: str, sidecar: Sidecar, directory: Path) -> None:
    name = f"{name}: {_RATE} a second"
    _latency(table, name, _load(sidecar, directory, _PACED, _RATE), p99_ms=5)


def _latency(table: Table, name: str, told: dict[str, float], p99_ms: float | None = None) -> None:
    table.add(f"{name}, p50", told["p50"] * 1000, "ms")
    table.add(f"{name}, p99", told["p99"] * 1000, "ms", at_most=p99_ms)
    table.add(f"{name}, longest", told["max"] * 1000, "ms")
    table.add(f"{name}, refused", told["refused"], "", exactly=0)


def _load(sidecar: Sidecar, directory: Path, requests: int, rate: float = 0) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.load", sidecar.credentials, str(directory / "token")]
    command += [str(requests), str(rate)]
    ran = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True, timeout=400)
    told: dict[str, float] = json.loads(ran.stdout)
    return told


def _ready_after(sidecar: Sidecar) -> float:
    """Stop it and start it again; from exec until /readyz says yes."""
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
