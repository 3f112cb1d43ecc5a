"""Records the faults of a soak with their times, and the violations."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

# A rotated token is saved within this time unless writes fail: the longest pause between attempts, and load.
_SAVE_SECONDS = 15


@dataclass(slots=True)
class Fault:
    """A fault from `start` to `end`, in Unix time. `stops_writes`: the API server may not accept writes during it."""

    kind: str
    stops_writes: bool
    start: float
    end: float = float("inf")


@dataclass(slots=True)
class Journal:
    """Faults, restarts of operators, tokens that were lost for a permitted reason, and violations, in their order."""

    faults: list[Fault] = field(default_factory=list)
    restarts: int = 0
    losses: Counter[str] = field(default_factory=Counter)
    violations: dict[str, None] = field(default_factory=dict)

    @contextmanager
    def fault(self, kind: str, *, stops_writes: bool) -> Iterator[None]:
        """Record a fault that lasts as long as the context."""
        fault = Fault(kind, stops_writes, now())
        self.faults.append(fault)
        try:
            yield
        finally:
            fault.end = now()

    def add_violation(self, sentence: str) -> None:
        """Record and print a violation. The same sentence is recorded only once."""
        if sentence not in self.violations:
            self.violations[sentence] = None
            print(f"VIOLATION: {sentence}", flush=True)

    def permitted_loss(self, consumed: float) -> str:
        """Return why the replacement of a token that was consumed in this second may be lost; "" if it must not be."""
        saved = consumed + _SAVE_SECONDS
        for fault in self.faults:
            if fault.stops_writes and consumed - 1 <= fault.end and fault.start <= saved:
                saved = max(saved, fault.end + _SAVE_SECONDS)
        for fault in self.faults:
            if fault.kind == "operator killed" and consumed - 1 <= fault.start <= saved:
                return "process killed before the save"
            if fault.kind == "operator frozen" and fault.start - 1 <= consumed <= fault.end + 1:
                return "process suspended when the response arrived"
        return ""


def now() -> float:
    return datetime.now(UTC).timestamp()  # noqa: TID251 - the operators and the emulator use the real clock
