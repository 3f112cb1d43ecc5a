"""Rules about the exchanges: what each requires and consumes, chains of STS sessions, and the operator's identity."""

from typing import Any

from keyturn.api.base import MAX_NAME_LENGTH, Rule
from keyturn.api.exchanges.base import SINGLE_USE_FIELDS, AwsExchangeSpec
from keyturn.api.exchanges.registry import EXCHANGES
from keyturn.api.exchanges.sts import AssumeRoleSpec, GetFederationTokenSpec
from keyturn.api.rules.names import (
    ASSERTION_TOKEN,
    AWS,
    HAS_ASSERTION_TOKEN,
    HAS_SOURCE_CREDENTIALS,
    HAS_SOURCE_TOKEN,
    PRODUCE,
    PRODUCE_ID_TOKEN,
    REQUIRE,
    ROLES,
    USERS_ONLY,
    any_of,
    assertion_token,
    earlier,
    exchange_meets,
    has_producer,
    pipeline,
)

HAS_REGION = any_of(f"(x == '{name}' && has(self.exchanges[i].{name}.region))" for name in AWS)

CONDITIONALLY_REQUIRES_TOKEN = exchange_meets(lambda exchange: exchange.CEL_REQUIRES_TOKEN)
REQUIRES_TOKEN = any_of([f"x in {REQUIRE['token']}", CONDITIONALLY_REQUIRES_TOKEN])

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
    + [f"({HAS_ASSERTION_TOKEN} && {ASSERTION_TOKEN} == 'idToken')"]
)

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
        cel=f"({HAS_SOURCE_TOKEN}) || steps.all(i, x, !{REQUIRES_TOKEN} || {earlier(PRODUCE['token'])})",
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
            ({HAS_SOURCE_CREDENTIALS}) ||
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
        if "idToken" in (getattr(reader, "from_", None), *getattr(reader, "logins", {}).values())
        or assertion_token(reader) == "idToken"
    ),
)

ASSERTION_TOKEN_RULE = Rule(
    message="clientAssertionFrom.pipeline accessToken requires an earlier exchange that produces a token",
    cel=f"""
        steps.all(i, x, !({HAS_ASSERTION_TOKEN} && {ASSERTION_TOKEN} == 'accessToken') || {earlier(PRODUCE["token"])})
    """,
    is_met_by=lambda spec: all(
        has_producer(before, "token") for reader, before in pipeline(spec) if assertion_token(reader) == "accessToken"
    ),
)

# Credentials that an exchange consumes: at most one per TokenRequest, and it must be replaceable.
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

# The longest session in seconds of a role that is assumed with the credentials of another role.
CHAINED_SECONDS = 3600

ROLE_RULES = (
    Rule(
        message=f"{' and '.join(USERS_ONLY)} require the access keys of an IAM user: no earlier exchange may produce"
        " credentials",
        cel=f"steps.all(i, x, !(x in {USERS_ONLY}) || !{earlier(PRODUCE['credentials'])})",
        is_met_by=lambda spec: (
            not any(
                exchange.FOR_USERS_ONLY and has_producer(before, "credentials") for exchange, before in pipeline(spec)
            )
        ),
    ),
    Rule(
        message=f"assumeRole after another role (role chaining) is limited to {CHAINED_SECONDS} seconds: lower"
        " durationSeconds",
        cel=f"""
            steps.all(i, x,
                x != 'assumeRole' ||
                self.exchanges[i].assumeRole.?durationSeconds.orValue(0) <= {CHAINED_SECONDS} ||
                !{earlier(ROLES)})
        """,
        is_met_by=lambda spec: (
            not any(
                isinstance(exchange, AssumeRoleSpec)
                and (exchange.duration_seconds or 0) > CHAINED_SECONDS
                and any(role.IS_ROLE for role in before)
                for exchange, before in pipeline(spec)
            )
        ),
    ),
    Rule(
        message="assumeRole cannot follow getFederationToken: STS does not let federated users assume roles",
        cel=f"steps.all(i, x, x != 'assumeRole' || !{earlier(['getFederationToken'])})",
        is_met_by=lambda spec: (
            not any(
                isinstance(exchange, AssumeRoleSpec)
                and any(isinstance(user, GetFederationTokenSpec) for user in before)
                for exchange, before in pipeline(spec)
            )
        ),
    ),
)

# Keyturn sets these session tags, so that trust policies can distinguish TokenRequests.
AMBIENT_TAGS = ["kubernetes-namespace", "kubernetes-name"]
MAX_TAGS = 50 - len(AMBIENT_TAGS)
IS_AMBIENT = f"{HAS_SOURCE_CREDENTIALS} && has(self.source.credentials.ambient)"


AMBIENT_RULES = (
    Rule(
        message="ambient credentials can be used only if the first exchange is assumeRole without roleSessionName",
        cel=f"""
            !({IS_AMBIENT}) ||
            (has(self.exchanges[0].assumeRole) && !has(self.exchanges[0].assumeRole.roleSessionName))
        """,
        is_met_by=lambda spec: (
            not spec.source.is_ambient
            or bool(spec.exchanges[0].assume_role and spec.exchanges[0].assume_role.role_session_name is None)
        ),
    ),
    Rule(
        message=f"with ambient credentials Keyturn sets the tags {' and '.join(AMBIENT_TAGS)}; tags may contain at most"
        f" {MAX_TAGS} other tags",
        cel=f"""
            !({IS_AMBIENT}) || !has(self.exchanges[0].assumeRole) || !has(self.exchanges[0].assumeRole.tags) ||
            (self.exchanges[0].assumeRole.tags.size() <= {MAX_TAGS} &&
             self.exchanges[0].assumeRole.tags.all(t, !(t.key.lowerAscii() in {AMBIENT_TAGS})))
        """,
        is_met_by=lambda spec: (
            not (
                spec.source.is_ambient
                and spec.exchanges[0].assume_role
                and (tags := spec.exchanges[0].assume_role.tags)
            )
            or (len(tags) <= MAX_TAGS and not any(tag.key.lower() in AMBIENT_TAGS for tag in tags))
        ),
    ),
)
