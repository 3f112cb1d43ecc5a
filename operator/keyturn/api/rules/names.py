"""Names that the rules share: in CEL, lists of the exchanges with a property; in Python, the pipeline."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, get_args

from keyturn.api.base import Kind
from keyturn.api.exchanges.base import AwsExchangeSpec, ExchangeSpec
from keyturn.api.exchanges.oauth import OauthTokenSpec
from keyturn.api.exchanges.registry import EXCHANGES


def _exchanges(has_property: Callable[[type[ExchangeSpec]], bool]) -> list[str]:
    return [name for name, exchange in EXCHANGES.items() if has_property(exchange)]


_KINDS: tuple[Kind, ...] = get_args(Kind)
# Excludes exchanges that require a kind only if a field has a certain value.
REQUIRE = {kind: _exchanges(lambda exchange, kind=kind: kind in exchange.REQUIRES) for kind in _KINDS}  # type: ignore[misc]
PRODUCE = {kind: _exchanges(lambda exchange, kind=kind: kind in exchange.PRODUCES) for kind in _KINDS}  # type: ignore[misc]
PRODUCE_ID_TOKEN = _exchanges(lambda exchange: exchange.PRODUCES_ID_TOKEN)
AWS = _exchanges(lambda exchange: issubclass(exchange, AwsExchangeSpec))
ROLES = _exchanges(lambda exchange: exchange.IS_ROLE)
USERS_ONLY = _exchanges(lambda exchange: exchange.FOR_USERS_ONLY)

# CEL: the source contains a token, or AWS credentials.
HAS_SOURCE_TOKEN = "has(self.source) && has(self.source.token)"  # noqa: S105 - a condition
HAS_SOURCE_CREDENTIALS = "has(self.source) && has(self.source.credentials)"

# CEL, for exchange `x` at index `i`: the token of an earlier exchange with which its client authenticates.
ASSERTION_TOKEN = "self.exchanges[i].oauthToken.clientAssertionFrom.pipeline"  # noqa: S105 - the path of a field
HAS_ASSERTION_TOKEN = (
    f"x == 'oauthToken' && has(self.exchanges[i].oauthToken.clientAssertionFrom) && has({ASSERTION_TOKEN})"
)


def earlier(names: list[str]) -> str:
    """CEL: one of these exchanges comes before exchange `i`."""
    return f"steps.exists(j, y, j < i && y in {names})"


def any_of(conditions: Iterable[str]) -> str:
    """CEL: one of these conditions is met."""
    return f"({' || '.join(conditions)})"


def exchange_meets(condition: Callable[[type[ExchangeSpec]], str]) -> str:
    """CEL: exchange `x` at index `i` meets the condition of its type, which is on `self` and may be empty."""
    conditions = {name: condition(exchange) for name, exchange in EXCHANGES.items()}
    return any_of(
        f"(x == '{name}' && ({cel.replace('self.', f'self.exchanges[i].{name}.')}))"
        for name, cel in conditions.items()
        if cel
    )


def pipeline(spec: Any) -> Iterator[tuple[ExchangeSpec, Sequence[ExchangeSpec]]]:
    """Yield each exchange of a spec with the exchanges before it."""
    exchanges = [step.exchange for step in spec.exchanges]
    return ((exchange, exchanges[:index]) for index, exchange in enumerate(exchanges))


def assertion_token(exchange: ExchangeSpec) -> str | None:
    """Return which token of an earlier exchange the client of an exchange authenticates with."""
    source = exchange.client_assertion_from if isinstance(exchange, OauthTokenSpec) else None
    return source.pipeline if source else None


def has_producer(exchanges: Iterable[ExchangeSpec], kind: Kind) -> bool:
    """Whether one of the exchanges produces a kind of value."""
    return any(kind in exchange.PRODUCES for exchange in exchanges)
