"""What the operator lends to sources, as its settings allow: its AWS identity, tokens of service accounts."""

from keyturn.api.source import ServiceAccountTokenSpec
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import Token, jwt_times, safe
from keyturn.exchanges.context import Call

_DEFAULT_AUDIENCES = ("sts.amazonaws.com",)
_DEFAULT_SECONDS = 3600


async def service_account_token(call: Call, wanted: ServiceAccountTokenSpec) -> Token:
    """Make a token of a service account; raises RefusedError (IdentityNotAllowed) for audiences of no setting."""
    audiences = wanted.audiences or _DEFAULT_AUDIENCES
    forbidden = [it for it in audiences if it not in call.context.sources.audiences]
    if forbidden:
        raise RefusedError(
            "IdentityNotAllowed",
            f"the operator's settings (sources.audiences) do not allow {', '.join(forbidden)}",
        )
    seconds = wanted.expiration_seconds or _DEFAULT_SECONDS
    token = await call.context.make_token(call.namespace, wanted.name, audiences, seconds)
    return Token(safe(token, "the token of the ServiceAccount"), jwt_times(token)[1])


def check_ambient(call: Call, role: str) -> None:
    """Raise RefusedError (IdentityNotAllowed) unless requests of this namespace may assume the role as we do."""
    if not any(rule.allows(call.namespace, role) for rule in call.context.sources.ambient):
        raise RefusedError(
            "IdentityNotAllowed",
            f"the operator's settings (sources.ambient) do not let namespace {call.namespace} assume {role}",
        )
