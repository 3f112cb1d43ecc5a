"""Rules about the target: it differs from the Secrets that are read, and it is renewed within its lifetime."""

from typing import Any

import msgspec

from keyturn.api.base import Rule
from keyturn.api.exchanges.base import SINGLE_USE_FIELDS
from keyturn.api.exchanges.registry import EXCHANGES
from keyturn.api.times import is_duration

TARGET = "self.spec.?target.?secretName.orValue(self.metadata.name)"
# Ternaries and has() instead of orValue(''), for whose result the API server's cost estimate assumes no size limit.
SOURCES_DIFFER = f"""(!has(self.spec.source) || (
    (!has(self.spec.source.token) || !has(self.spec.source.token.secretKeyRef) || (
        self.spec.source.token.secretKeyRef.name != {TARGET} &&
        (has(self.spec.source.token.saveTo)
            ? self.spec.source.token.saveTo.secretName != {TARGET}
            : self.spec.source.token.secretKeyRef.name + '-keyturn' != {TARGET}))) &&
    (!has(self.spec.source.credentials) || !has(self.spec.source.credentials.secretRef) ||
        self.spec.source.credentials.secretRef.name != {TARGET})
))"""


# Fields that may refer to something other than a Secret key.
UNIONS = ("caBundleFrom", "clientAssertionFrom")


def _references_differ(exchange: str, fields: list[str]) -> str:
    """CEL: no field of exchange `x` refers to a key of the target, and no single-use credential has it as token Secret.

    The fields are tested together, because each has() of a union's member copies all of its members.
    """
    conditions = []
    for field in fields:
        path = f"x.{exchange}.{field}"
        unset = f"!has({path})" + (f" || !has({path}.secretKeyRef)" if field in UNIONS else "")
        differs = f"{path}.secretKeyRef.name != {TARGET}"
        if field in SINGLE_USE_FIELDS:
            differs += f" && {path}.secretKeyRef.name + '-keyturn' != {TARGET}"
        conditions.append(f"({unset} || ({differs}))")
    return f"(!has(x.{exchange}) || ({' && '.join(conditions)}))"


# The fields that refer to a Secret key, by exchange.
REFERENCES = {
    name: [field.encode_name for field in msgspec.structs.fields(exchange) if field.name.endswith("_from")]
    for name, exchange in EXCHANGES.items()
}
EXCHANGES_DIFFER = " && ".join(_references_differ(name, fields) for name, fields in REFERENCES.items() if fields)

TARGET_RULE = Rule(
    message="the target must not be a Secret that the spec reads or stores a token in",
    cel=f"{SOURCES_DIFFER} && self.spec.exchanges.all(x, {EXCHANGES_DIFFER})",
    is_met_by=lambda request: request.secret_name not in request.spec.secrets_read,
)

# The lifetime of exchange x at index i in seconds, 0 if it is not known in advance.
LIFETIME = (
    " : ".join(
        f"x == '{name}' ? self.exchanges[i].{name}.?durationSeconds.orValue({exchange.DEFAULT_SECONDS})"
        for name, exchange in EXCHANGES.items()
        if exchange.DEFAULT_SECONDS
    )
    + " : 0"
)


def _is_within_lifetime(spec: Any) -> bool:
    before, exchange = spec.renewal and spec.renewal.before, spec.exchanges[-1].exchange
    if not (before and exchange.DEFAULT_SECONDS):
        return True
    lifetime: int = exchange.DEFAULT_SECONDS if exchange.duration_seconds is None else exchange.duration_seconds
    return lifetime == 0 or before.total_seconds() < lifetime


RENEWAL_RULE = Rule(
    message="renewal.renewBefore must be shorter than durationSeconds of the last exchange (or its default)",
    cel=f"""
        !has(self.renewal) || !has(self.renewal.renewBefore) || !({is_duration("self.renewal.renewBefore")}) ||
        steps.all(i, x, i + 1 < steps.size() ||
            [{LIFETIME}].all(lifetime,
                lifetime == 0 || duration(self.renewal.renewBefore).getSeconds() < lifetime))
    """,
    is_met_by=_is_within_lifetime,
)
