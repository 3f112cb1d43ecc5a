import pytest

from keyturn.api.exchanges.base import SINGLE_USE_FIELDS, ExchangeSpec
from keyturn.api.exchanges.registry import EXCHANGES
from keyturn.exchanges.registry import CALLS, CONSUMING


def test_every_exchange_has_one_coroutine() -> None:
    assert {*CONSUMING, *CALLS} == set(EXCHANGES.values())
    assert CONSUMING.keys().isdisjoint(CALLS)


@pytest.mark.parametrize("spec", EXCHANGES.values(), ids=EXCHANGES)
def test_exchange_that_may_consume_a_token_is_prepared(spec: type[ExchangeSpec]) -> None:
    """An exchange that consumes its input must fail before the intent is written, or in its one call."""
    overridden = [name for name in ("is_refresh_grant", "is_token_single_use") if name in vars(spec)]
    fields = {*spec.__struct_encode_fields__} & {*SINGLE_USE_FIELDS}

    assert bool(overridden or fields) == (spec in CONSUMING)
