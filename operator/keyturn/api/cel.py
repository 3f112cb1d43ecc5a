"""What the rules of a spec ask about exchanges, in CEL and in Python.

In CEL, `steps` are the names of the exchanges in their order, and `x` is the one at `i`.
"""

from collections.abc import Iterable
from typing import get_args

from keyturn.api.base import Kind, member_in_cel
from keyturn.api.exchanges.registry import EXCHANGES, StepSpec

# By kind of value: the names of the operations that give it.
PRODUCERS: dict[Kind, list[str]] = {
    kind: [name for name, o in EXCHANGES.items() if kind in o.PRODUCES] for kind in get_args(Kind)
}


STEPS = f"self.exchanges.map(x, {member_in_cel(EXCHANGES, 'x')})"


def step(name: str) -> str:
    """Exchange `i` as this operation, in CEL; it must be that."""
    return f"self.exchanges[i].{name}"


def before(given: list[str]) -> str:
    """Whether one of these operations comes before exchange `i`, in CEL."""
    return f"steps.exists(j, y, j < i && y in {given})"


def when(conditions: dict[str, list[str]]) -> str:
    """Whether exchange `x` is an operation to which one of its conditions applies, in CEL."""
    steps = [f"(x == '{name}' && ({' || '.join(given)}))" for name, given in conditions.items() if given]
    return "(" + " || ".join(steps) + ")"


def produces(exchanges: Iterable[StepSpec], kind: Kind) -> bool:
    """Whether one of the exchanges gives a kind of value."""
    return any(kind in exchange.exchange.PRODUCES for exchange in exchanges)
