"""The figures as they are printed and written: name, value, unit, goal, and whether the goal holds."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.bench.usage import Usage


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `holds` is None where there is no goal."""

    name: str
    value: float
    unit: str
    goal: str
    holds: bool | None


class Table:
    """Rows, each printed when it is known."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

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
        """Add and print a figure, with its goal if it has one."""
        value = round(value, 3)
        goal, holds = "", None
        if at_least is not None:
            goal, holds = f"at least {at_least:g}", value >= at_least
        elif at_most is not None:
            goal, holds = f"at most {at_most:g}", value <= at_most
        elif exactly is not None:
            goal, holds = f"exactly {exactly:g}", value == exactly
        self._rows.append(Row(name, value, unit, goal, holds))
        classification = {None: "", True: "yes", False: "NO"}[holds]
        print(f"{name:<58}{value:>12g} {unit:<10}{goal:<16}{classification}", flush=True)

    def add_cpu(self, name: str, used: Usage, number: int, **operator_goal: float) -> None:
        """Add the CPU time of each process for each of `number` issues, and what took our time meanwhile."""
        for process, spent in used.cpu.items():
            goal = operator_goal if process == "operator" else {}
            self.add(f"{name}: CPU of {process}", spent / number * 1000, "ms each", **goal)
        self.add(f"{name}: other work on this machine", used.others / used.at, "cores")

    def write(self, path: Path) -> None:
        """Write all rows as JSON."""
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps([asdict(row) for row in self._rows], indent=1) + "\n")
