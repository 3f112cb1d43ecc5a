"""The rule between spec.renewal and the lifetime of the last exchange."""

from typing import Any

from keyturn.api.base import Rule
from keyturn.api.exchanges.registry import EXCHANGES
from keyturn.api.target import is_duration

# The lifetime of exchange x at index i in seconds, 0 if it is not known in advance.
LIFETIME = (
    " : ".join(
        f"x == '{name}' ? self.exchanges[i].{name}.?durationSeconds.orValue({exchange.DEFAULT_SECONDS})"
        for name, exchange in EXCHANGES.items()
        if exchange.DEFAULT_SECONDS
    )
    + " : 0"
)


def _lifetime(exchange: Any) -> int:
    default: int | None = exchange.DEFAULT_SECONDS
    seconds: int | None = exchange.duration_seconds if default else 0
    return seconds if seconds is not None else default or 0


def _renews_within_lifetime(spec: Any) -> bool:
    lifetime = _lifetime(spec.exchanges[-1].exchange)
    before = spec.renewal and spec.renewal.before
    return not before or lifetime == 0 or before.total_seconds() < lifetime


RENEWAL_RULES = (
    Rule(
        message="renewal.renewBefore must be shorter than durationSeconds of the last exchange (or its default)",
        cel=f"""
            !has(self.renewal) || !has(self.renewal.renewBefore) || !({is_duration("self.renewal.renewBefore")}) ||
            steps.all(i, x, i + 1 < steps.size() ||
                [{LIFETIME}].all(lifetime,
                    lifetime == 0 || duration(self.renewal.renewBefore).getSeconds() < lifetime))
        """,
        is_met_by=_renews_within_lifetime,
    ),
)
