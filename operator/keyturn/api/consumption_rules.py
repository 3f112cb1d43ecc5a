"""The rules about what an exchange uses up: only one may, and it must be possible to keep what comes of it."""

from typing import Any

from keyturn.api.base import Rule
from keyturn.api.cel import PRODUCERS, before, produces, step, when
from keyturn.api.exchanges.base import PROOFS
from keyturn.api.exchanges.registry import EXCHANGES

# By operation: when it uses up what it is given. The first is a refresh token, the others work only once.
_CONSUME = {name: [o.CONSUMES.format(step(name))] for name, o in EXCHANGES.items() if o.CONSUMES}
_PROVE = {
    name: [f"has({step(name)}.{proof})" for proof in PROOFS if proof in o.__struct_encode_fields__]
    for name, o in EXCHANGES.items()
}
_USE_UP = {name: [o.CONSUMES_TOKEN.format(step(name))] for name, o in EXCHANGES.items() if o.CONSUMES_TOKEN}
_STORED = "has(self.source.token) && has(self.source.token.secretKeyRef)"
_OF_SOURCE = f"{_STORED} && steps.exists(i, x, {when(_USE_UP)} && !{before(PRODUCERS['token'])})"


def _refreshes_the_source(spec: Any) -> bool:
    return all(
        not exchange.exchange.consumes or (spec.source.token_ref and not produces(spec.exchanges[:index], "token"))
        for index, exchange in enumerate(spec.exchanges)
    )


def _uses_up_one(spec: Any) -> bool:
    steps = [e.exchange for e in spec.exchanges if e.exchange.consumes or e.exchange.once]
    # Only the first that reads the source token can: it gives another one.
    of_source = spec.source.token_ref is not None and any(
        exchange.exchange.consumes_token and not produces(spec.exchanges[:index], "token")
        for index, exchange in enumerate(spec.exchanges)
    )
    return len(steps) + of_source <= 1


CONSUMPTION_RULES = (
    Rule(
        message="the refresh_token grant uses source.token: no exchange before it may give a token, and it must be in"
        " a Secret",
        cel=f"steps.all(i, x, !{when(_CONSUME)} || ({_STORED} && !{before(PRODUCERS['token'])}))",
        is_met_by=_refreshes_the_source,
    ),
    Rule(
        message="only one exchange may use up what it is given: a refresh token, or what works only once",
        cel=f"steps.transformList(i, x, {when(_CONSUME)} || {when(_PROVE)}, x).size() + ({_OF_SOURCE} ? 1 : 0) <= 1",
        is_met_by=_uses_up_one,
    ),
)
