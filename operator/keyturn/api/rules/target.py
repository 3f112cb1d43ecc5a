"""The rule between the target Secret and the Secrets that a TokenRequest reads."""

import msgspec

from keyturn.api.base import Rule
from keyturn.api.exchanges.base import SINGLE_USE_FIELDS
from keyturn.api.exchanges.registry import EXCHANGES

TARGET = "self.spec.?target.?secretName.orValue(self.metadata.name)"
# Ternaries and has() instead of orValue(''): the API server's cost estimate knows no size limit for its result.
SOURCES_DIFFER = f"""(
    (!has(self.spec.source.token) || !has(self.spec.source.token.secretKeyRef) || (
        self.spec.source.token.secretKeyRef.name != {TARGET} &&
        (has(self.spec.source.token.saveTo)
            ? self.spec.source.token.saveTo.secretName != {TARGET}
            : self.spec.source.token.secretKeyRef.name + '-keyturn' != {TARGET}))) &&
    (!has(self.spec.source.credentials) || !has(self.spec.source.credentials.secretRef) ||
        self.spec.source.credentials.secretRef.name != {TARGET})
)"""


def _reference_differs(path: str, field: str) -> str:
    """CEL: a field that refers to a Secret key refers to another Secret than the target.

    The same for the token Secret of a single-use credential. caBundleFrom may refer to a ConfigMap instead.
    """
    unset = f"!has({path})" if field != "caBundleFrom" else f"!has({path}) || !has({path}.secretKeyRef)"
    differs = f"{path}.secretKeyRef.name != {TARGET}"
    if field in SINGLE_USE_FIELDS:
        differs += f" && {path}.secretKeyRef.name + '-keyturn' != {TARGET}"
    return f"({unset} || ({differs}))"


def _references_differ(exchange: str, fields: list[str]) -> str:
    """CEL: the fields of exchange `x`, tested together: each has() of a union's member copies all of its members."""
    conditions = (_reference_differs(f"x.{exchange}.{field}", field) for field in fields)
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
