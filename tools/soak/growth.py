"""Descriptors, threads, tasks and memory of the leader, which must not grow."""

import os
import signal
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from tests.support.cluster.operator import Operator
from tools.bench.usage import memory_mib
from tools.soak.journal import Journal

# How much the leader may grow: connections to AWS, and their threads, start when they are needed.
_LIMITS = {"descriptors": 32, "threads": 20, "tasks": 32, "MiB": 32}
_WARM_UP, _COMPARED = 20, 10


class Growth:
    """Samples of each process while it leads."""

    def __init__(self) -> None:
        self._samples = defaultdict[int, list[tuple[float, ...]]](list)

    def sample(self, leader: Operator) -> None:
        """Add a sample. Its number of tasks is the one that the leader wrote after the previous call."""
        pid, tasks = leader.process.pid, leader.log_file.with_name("tasks")
        with suppress(OSError, ValueError):  # it may exit at any time
            open_now = (sum(1 for _ in Path(f"/proc/{pid}/{part}").iterdir()) for part in ("fd", "task"))
            self._samples[pid].append((*open_now, int(tasks.read_text()), memory_mib(pid)))
        with suppress(OSError):
            os.kill(pid, signal.SIGRTMIN)

    def judge(self, journal: Journal) -> str:
        """Compare the minimum of the first samples of the process that led longest with that of its last samples."""
        samples = max(self._samples.values(), key=len, default=[])[_WARM_UP:]
        if len(samples) < 2 * _COMPARED:
            return "not measured: no process led long enough"
        texts = []
        for (name, limit), column in zip(_LIMITS.items(), zip(*samples, strict=True), strict=True):
            first, last = min(column[:_COMPARED]), min(column[-_COMPARED:])
            texts.append(f"{name} {first:.0f} to {last:.0f}")
            if last - first > limit:
                journal.add_violation(f"{name} of an operator grew from {first:.0f} to {last:.0f}")
        return f"{', '.join(texts)} in {len(samples)} samples"
