"""The resources that processes use, from /proc, and the API server's requests, from its metrics."""

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_ESTABLISHED = "01"
_REQUESTS = re.compile(r"^apiserver_request_total\{([^}]*)\} ([0-9.e+]+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_COUNTED = frozenset({"secrets", "tokenrequests", "events"})


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def machine_cpu_seconds() -> float:
    """Return the CPU time of the whole machine, without idle and I/O wait."""
    user, nice, system = Path("/proc/stat").read_text().split()[1:4]
    return (int(user) + int(nice) + int(system)) / _TICKS


def memory_mib(pid: int, *, peak: bool = False) -> float:
    """Return the resident memory of a process, current or peak."""
    match = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) / 1024 if match else 0.0


def available_mib() -> float:
    """Return the memory of the machine that is available for use."""
    match = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(match[1]) / 1024 if match else float("inf")


def connections(port: int) -> int:
    """Count the open connections to a port of this machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[3] == _ESTABLISHED and row[2].endswith(f":{port:04X}") for row in rows)


def api_requests(metrics: str) -> Counter[str]:
    """Count the requests for three resources, as "APPLY secrets" or "PATCH tokenrequests/status"."""
    counts: Counter[str] = Counter()
    for labels, number in _REQUESTS.findall(metrics):
        label = dict(_LABEL.findall(labels))
        if label["resource"] in _COUNTED:
            parts = (label["resource"], label["subresource"])
            dry = " dry run" if label["dry_run"] else ""
            counts[f"{label['verb']} {'/'.join(filter(None, parts))}{dry}"] += int(float(number))
    return counts


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources used since the start of each process. The difference of two is the usage between them.

    `others` is the CPU time of processes that are not measured.
    """

    at: float
    cpu: Mapping[str, float]
    others: float
    requests: Counter[str]
    calls: int

    def __sub__(self, before: "Usage") -> "Usage":
        cpu = {name: seconds - before.cpu.get(name, 0.0) for name, seconds in self.cpu.items()}
        others = self.others - before.others
        return Usage(self.at - before.at, cpu, others, self.requests - before.requests, self.calls - before.calls)

    @property
    def single_object_requests(self) -> Counter[str]:
        """The requests except lists and watches."""
        return Counter(
            {request: n for request, n in self.requests.items() if not request.startswith(("LIST", "WATCH"))}
        )
