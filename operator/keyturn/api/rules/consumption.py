"""Rules about credentials that an exchange consumes: at most one per TokenRequest, and it must be replaceable."""

from typing import Any

from keyturn.api.base import MAX_NAME_LENGTH, Rule
from keyturn.api.exchanges.base import SINGLE_USE_FIELDS
from keyturn.api.rules.names import (
    HAS_ASSERTION_TOKEN,
    HAS_SOURCE_TOKEN,
    PRODUCE,
    assertion_token,
    earlier,
    exchange_meets,
    has_producer,
    pipeline,
)

REFRESHES = exchange_meets(lambda exchange: exchange.CEL_IS_REFRESH_GRANT)
HAS_SINGLE_USE_CREDENTIAL = exchange_meets(
    lambda exchange: " || ".join(
        f"has(self.{field})" for field in SINGLE_USE_FIELDS if field in exchange.__struct_encode_fields__
    )
)
CONSUMES_TOKEN = exchange_meets(lambda exchange: exchange.CEL_IS_TOKEN_SINGLE_USE)

SOURCE_IS_SECRET = f"{HAS_SOURCE_TOKEN} && has(self.source.token.secretKeyRef)"


def _consumed_credentials(spec: Any) -> int:
    count = sum(bool(exchange.is_refresh_grant or exchange.single_use_credential) for exchange, _ in pipeline(spec))
    # Several exchanges may consume a token, but only the first reads the source token: it produces another one.
    is_source_consumed = spec.source.token_ref is not None and any(
        exchange.is_token_single_use and not has_producer(before, "token") for exchange, before in pipeline(spec)
    )
    return count + is_source_consumed


CONSUMPTION_RULES = (
    Rule(
        message="grantType refresh_token sends source.token: it must come from a Secret, and no earlier exchange may"
        " produce a token, except for clientAssertionFrom.pipeline",
        cel=f"""
            steps.all(i, x, !{REFRESHES} ||
                ({SOURCE_IS_SECRET} && ({HAS_ASSERTION_TOKEN} || !{earlier(PRODUCE["token"])})))
        """,
        is_met_by=lambda spec: all(
            spec.source.token_ref and (assertion_token(exchange) or not has_producer(before, "token"))
            for exchange, before in pipeline(spec)
            if exchange.is_refresh_grant
        ),
    ),
    Rule(
        message="only one exchange may consume its input: a refresh token or a single-use credential",
        cel=f"""
            steps.transformList(i, x, {REFRESHES} || {HAS_SINGLE_USE_CREDENTIAL}, x).size() +
            ({SOURCE_IS_SECRET} && steps.exists(i, x, {CONSUMES_TOKEN} && !{earlier(PRODUCE["token"])}) ? 1 : 0) <= 1
        """,
        is_met_by=lambda spec: _consumed_credentials(spec) <= 1,
    ),
    Rule(
        message=f"the name of the token Secret, <name of the source Secret>-keyturn, is longer than {MAX_NAME_LENGTH}"
        " characters: set source.token.saveTo",
        cel=f"""
            !({SOURCE_IS_SECRET}) || has(self.source.token.saveTo) ||
            self.source.token.secretKeyRef.name.size() <= 245 ||
            !steps.exists(i, x, {REFRESHES} || ({CONSUMES_TOKEN} && !{earlier(PRODUCE["token"])}))
        """,
        is_met_by=lambda spec: spec.consumption is None or len(spec.consumption.secret) <= MAX_NAME_LENGTH,
    ),
)
