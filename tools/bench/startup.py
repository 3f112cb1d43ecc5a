"""A start of the operator, split into its imports, the Lease and the lists."""

import asyncio
import contextlib
import re
import time
from dataclasses import dataclass

from tests.support.cluster.operator import Operator
from tests.support.processes import http_get
from tools.bench import usage
from tools.bench.table import Table

_POLL_SECONDS = 0.02
_LIMIT_SECONDS = 900
# What the log shows at the end of each stage but the last, which ends when /readyz succeeds.
_LOGGED = {
    "imports": r"listening on ([0-9.]+:[0-9]+)",
    "Lease": r"this process holds the (Lease)",
    "scope and issuance key": r"(renewing) in ",
}
_LAST = "lists"


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage: its duration, its CPU time, and the memory at its end."""

    name: str
    seconds: float
    cpu: float
    mib: float


async def start_again(operator: Operator) -> list[Stage]:
    """Start a stopped operator; returns its stages up to the end of the first lists."""
    offset, began, cpu = operator.log_file.stat().st_size, time.monotonic(), 0.0
    stages: list[Stage] = []
    operator.spawn()
    pid = operator.process.pid
    async with asyncio.timeout(_LIMIT_SECONDS):
        for name in (*_LOGGED, _LAST):
            if name == _LAST:
                await _until_listed(operator.address)
            else:
                value = await _logged(operator, offset, _LOGGED[name])
                operator.address = value if name == "imports" else operator.address
            now, used = time.monotonic(), usage.cpu_seconds(pid)
            stages.append(Stage(name, now - began, used - cpu, usage.memory_mib(pid)))
            began, cpu = now, used
    return stages


def add_stages(table: Table, name: str, stages: list[Stage]) -> None:
    """Add the stages to the table."""
    for stage in stages:
        table.add(f"{name}: {stage.name}", stage.seconds, "s")
        table.add(f"{name}: {stage.name}, CPU of operator", stage.cpu, "s")
        table.add(f"{name}: {stage.name}, memory after", stage.mib, "MiB")


async def _logged(operator: Operator, offset: int, pattern: str) -> str:
    while True:
        with operator.log_file.open() as log:
            log.seek(offset)
            if match := re.search(pattern, log.read()):
                return match[1]
        if operator.process.poll() is not None:
            raise RuntimeError(f"the operator did not start:\n{operator.log()[-2000:]}")
        await asyncio.sleep(_POLL_SECONDS)


async def _until_listed(address: str) -> None:
    """Wait until a leader is ready: before the lists begin, and after they end."""
    has_begun = False
    while True:
        # In a thread, and again after a timeout: the operator may not respond while it processes a list.
        status, reason = 0, ""
        with contextlib.suppress(OSError):
            status, reason = await asyncio.to_thread(http_get, f"http://{address}/readyz")
        has_begun = has_begun or "listed" in reason
        if has_begun and status == 200:
            return
        await asyncio.sleep(_POLL_SECONDS)
