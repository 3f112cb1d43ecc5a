"""What the rules of the API ask about exchanges, in CEL and in Python."""

from collections.abc import Iterable
from typing import get_args

from keyturn.core.model.exchanges import OPERATIONS, Exchange
from keyturn.core.model.part import Kind

# By kind of value: the names of the operations that give it.
GIVE: dict[Kind, list[str]] = {
    kind: [name for name, o in OPERATIONS.items() if kind in o.GIVES] for kind in get_args(Kind)
}


def any_of(names: Iterable[str], of: str) -> str:
    """Whether an exchange is one of these operations, in CEL."""
    return "(" + (" || ".join(f"has({of}.{name})" for name in names) or "false") + ")"


def before(given: Iterable[str]) -> str:
    """Whether one of these operations comes before exchange `i`, in CEL."""
    return f"self.exchanges.exists(j, y, j < i && {any_of(given, 'y')})"


def when(conditions: dict[str, list[str]]) -> str:
    """Whether exchange `x` is an operation to which one of its conditions applies, in CEL."""
    steps = [f"(has(x.{name}) && ({' || '.join(given)}))" for name, given in conditions.items() if given]
    return "(" + " || ".join(steps) + ")"


def gives(exchanges: Iterable[Exchange], kind: Kind) -> bool:
    """Whether one of the exchanges gives a kind of value."""
    return any(kind in exchange.operation.GIVES for exchange in exchanges)
