"""The table of results: name, value, unit, goal, and whether the goal is met."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.bench.usage import Usage


@dataclass(frozen=True, slots=True)
class Row:
    """A result. `is_met` is None if there is no goal."""

    name: str
    value: float
    unit: str
    goal: str
    is_met: bool | None


NO_GOALS: Mapping[str, float] = {}


class Table:
    """A head that describes the Python and the machine, and rows that are printed as they are added."""

    def __init__(self, head: str) -> None:
        self._head = head
        self._rows: list[Row] = []
        print(head, flush=True)

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        exactly: float | None = None,
    ) -> None:
        """Add and print a result, with its goal if there is one."""
        value = round(value, 3)
        goal, is_met = "", None
        if at_most is not None:
            goal, is_met = f"at most {at_most:g}", value <= at_most
        elif at_least is not None:
            goal, is_met = f"at least {at_least:g}", value >= at_least
        elif exactly is not None:
            goal, is_met = f"exactly {exactly:g}", value == exactly
        self._rows.append(Row(name, value, unit, goal, is_met))
        outcome = {None: "", True: "yes", False: "NO"}[is_met]
        print(f"{name:<58}{value:>12g} {unit:<10}{goal:<16}{outcome}", flush=True)

    def add_cpu(self, name: str, used: Usage, number: int, goals: Mapping[str, float] = NO_GOALS) -> None:
        """Add each process's CPU time per issuance, for `number` issuances, and the CPU use of other processes."""
        for process, seconds in used.cpu.items():
            self.add(f"{name}: CPU of {process}", seconds / number * 1000, "ms each", at_most=goals.get(process))
        self.add(f"{name}: other work on this machine", used.others / used.at, "cores")

    def write(self, path: Path) -> None:
        """Write the head and all rows as JSON."""
        path.parent.mkdir(exist_ok=True)
        content = {"head": self._head.splitlines(), "rows": [asdict(row) for row in self._rows]}
        path.write_text(json.dumps(content, indent=1) + "\n")
