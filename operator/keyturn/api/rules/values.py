"""Rules about what each exchange requires: a region, a token, credentials, an ID token."""

from keyturn.api.base import Rule
from keyturn.api.exchanges.base import AwsExchangeSpec, ExchangeSpec
from keyturn.api.exchanges.registry import EXCHANGES
from keyturn.api.rules.names import AWS, PRODUCE, PRODUCE_ID_TOKEN, REQUIRE, any_of, earlier, has_producer, pipeline

HAS_REGION = any_of(f"(x == '{name}' && has(self.exchanges[i].{name}.region))" for name in AWS)

REQUIRES_TOKEN = f"""(
    x in {REQUIRE["token"]} ||
    (x == 'oauthToken' && self.exchanges[i].oauthToken.grantType != 'client_credentials') ||
    (x == 'identityCenterCreateToken' && self.exchanges[i].identityCenterCreateToken.grantType != 'authorization_code'
                                      && !has(self.exchanges[i].identityCenterCreateToken.assertionFrom))
)"""

READS_ID_TOKEN = any_of(
    [
        f"(x == '{name}' && has(self.exchanges[i].{name}.from) && self.exchanges[i].{name}.from == 'idToken')"
        for name, exchange in EXCHANGES.items()
        if "from_" in exchange.__struct_fields__
    ]
    + [
        f"(x == '{name}' && self.exchanges[i].{name}.logins.exists(p, self.exchanges[i].{name}.logins[p] == 'idToken'))"
        for name, exchange in EXCHANGES.items()
        if "logins" in exchange.__struct_fields__
    ]
)


def _reads_id_token(exchange: ExchangeSpec) -> bool:
    logins = getattr(exchange, "logins", None) or {}
    return getattr(exchange, "from_", None) == "idToken" or "idToken" in logins.values()


VALUE_RULES = (
    Rule(
        message="region is missing: set spec.region, or region in each AWS exchange",
        cel=f"has(self.region) || steps.all(i, x, {HAS_REGION} || !(x in {AWS}))",
        is_met_by=lambda spec: bool(
            spec.region
            or all(exchange.region for exchange, _ in pipeline(spec) if isinstance(exchange, AwsExchangeSpec))
        ),
    ),
    Rule(
        message="token is missing: set source.token, or put an exchange that produces a token before the exchange that"
        " requires it",
        cel=f"has(self.source.token) || steps.all(i, x, !{REQUIRES_TOKEN} || {earlier(PRODUCE['token'])})",
        is_met_by=lambda spec: bool(
            spec.source.token
            or all(
                has_producer(before, "token")
                for exchange, before in pipeline(spec)
                if "token" in exchange.required_kinds
            )
        ),
    ),
    Rule(
        message="credentials are missing: set source.credentials, or put an exchange that produces credentials before"
        " the exchange that requires them",
        cel=f"""
            has(self.source.credentials) ||
            steps.all(i, x, !(x in {REQUIRE["credentials"]}) || {earlier(PRODUCE["credentials"])})
        """,
        is_met_by=lambda spec: bool(
            spec.source.credentials
            or all(
                has_producer(before, "credentials")
                for exchange, before in pipeline(spec)
                if "credentials" in exchange.required_kinds
            )
        ),
    ),
)

ID_TOKEN_RULE = Rule(
    message=f"idToken requires one of these exchanges before it: {', '.join(PRODUCE_ID_TOKEN)}",
    cel=f"steps.all(i, x, !{READS_ID_TOKEN} || {earlier(PRODUCE_ID_TOKEN)})",
    is_met_by=lambda spec: all(
        any(exchange.PRODUCES_ID_TOKEN for exchange in before)
        for reader, before in pipeline(spec)
        if _reads_id_token(reader)
    ),
)
