"""The initial values of a pipeline, and the issuance record and data made from its result."""

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from keyturn.api.times import rfc3339, whole_seconds
from keyturn.api.token_request import Request, canonical_hash
from keyturn.core.errors import KeyturnError, RefusedError, TransientRefusalError
from keyturn.core.formats.registry import expiry, render
from keyturn.core.issuance import (
    MAX_ITEMS,
    MAX_LIFETIME,
    Issuance,
    data_hash,
    is_unchanged,
    kept_identity,
    recordable,
)
from keyturn.core.pipeline_values import PipelineValues, SourceValues, Superseded, Token
from keyturn.core.renewal_time import source_warning, when_to_renew
from keyturn.core.state import Failure
from keyturn.core.token_family import StoredToken
from keyturn.core.token_times import jwt_times
from keyturn.reconcile.dependencies import Dependencies


class UnknownExpiryError(RefusedError):
    """The exchanges returned a token that could not be renewed in time: nothing states when it expires."""

    def __init__(self, message: str) -> None:
        super().__init__("InvalidSpec", message)


@dataclass(frozen=True, slots=True)
class IssueContext:
    """The input of an issuance record besides the pipeline's values. `source` is the source's fingerprint."""

    source: str
    last: Issuance | None
    revision: int
    rand: float
    now: datetime


def check_not_consumed(stored: StoredToken | None, failure: Failure | None) -> None:
    """Raise RefusedError (SourceConsumed) if the source is a single-use credential that has been used."""
    if stored is None or not stored.is_consumed:
        return
    if failure and failure.error.reason == "SourceConsumed":
        raise RefusedError("SourceConsumed", failure.error.message)
    why = f"; the last attempt failed: {failure.error.message}" if failure else ""
    advice = "store a new one in the source Secret"
    raise RefusedError("SourceConsumed", f"the single-use source credential has already been used; {advice}{why}")


def check_not_refused(request: Request, stored: StoredToken | None) -> None:
    """Raise UnknownExpiryError if the same attempt was refused before, after it had consumed a token."""
    if stored and stored.family and _attempt(request) in stored.family.refused_attempts:
        raise UnknownExpiryError(_unknown_expiry(request))


async def record_refusal(deps: Dependencies, request: Request) -> None:
    """Record that this attempt must not be repeated. If that fails, it only consumes one more token."""
    with suppress(KeyturnError):
        stored = await deps.tokens.read(request)
        if stored and stored.family:
            family = stored.family.with_refused_attempt(_attempt(request))
            await deps.tokens.update(request, replace(stored, family=family))


def _attempt(request: Request) -> str:
    """Return an identifier that changes with the spec, and with each renewal that a user requests."""
    return canonical_hash([request.request_hash, request.renew_requested])[-16:]


def _unknown_expiry(request: Request) -> str:
    steps = [(i, step) for i, step in enumerate(request.spec.exchanges) if "token" in step.exchange.PRODUCES]
    if steps and steps[-1][1].oauth_token:
        field = f"spec.exchanges[{steps[-1][0]}].oauthToken.assumedLifetime"
        return f"the issuer does not state when its access token expires, so it cannot be renewed in time; set {field}"
    return "the expiry of the token to write is unknown, so it cannot be renewed in time"


def initial_values(
    request: Request, source: SourceValues, stored: StoredToken | None, context: IssueContext
) -> PipelineValues:
    """Return the pipeline's initial values. Raises RefusedError (SourceExpired) for a JWT whose `exp` is past."""
    is_single_use = request.spec.consumption is not None and request.spec.consumption.is_single_use
    value = stored.value if stored and not is_single_use else source.token
    claimed = jwt_times(value or "").expires_at
    expires_at = stored.expires_at if stored and not is_single_use else claimed
    # A refresh token that was issued for a single-use credential may live longer than it.
    is_needed = stored is None or stored.issued_token is None or not is_single_use
    # A rotated token is sent if its response stated a later expiry, or if its `exp` was past when it was received.
    if is_needed and claimed and expires_at and max(claimed, expires_at) <= context.now:
        raise RefusedError("SourceExpired", f"the source token expired at {rfc3339(claimed)}")
    return PipelineValues(
        source_token=Token(value, expires_at) if value else None,
        credentials=source.credentials,
        revision=context.revision,
        identity_id=kept_identity(context.last, request),
        superseded=context.last.superseded if context.last else (),
    )


def issue(request: Request, values: PipelineValues, context: IssueContext) -> tuple[Issuance, dict[str, str]]:
    """Return the issuance record and the rendered data, and draw the renewal time.

    Raises UnknownExpiryError, and TransientRefusalError if the expiry is past.
    """
    issued, jitter = whole_seconds(context.now), math.floor(context.rand * 1000) / 1000
    expires = _expiry(request, values, context)
    data = render(request, values)
    source_issued, source_expires = _source_times(request, values, context)
    last, superseded = context.last, values.superseded
    if last and last.token_id not in ("", values.token_id):
        superseded += (Superseded(last.token_id, issued),)
    issuance = Issuance(
        request=request.name,
        uid=request.uid,
        issued=issued,
        expires=expires,
        renew=when_to_renew(request, issued, (expires, source_expires), jitter),
        jitter=jitter,
        request_hash=request.request_hash,
        exchange_hash=request.exchange_hash,
        metadata_hash=request.metadata_hash,
        data_hash=data_hash(data, request),
        source=context.source,
        revision=values.revision,
        keys=tuple(data),
        handled_renew_request=request.renew_requested,
        principal=values.principal,
        source_expires=source_expires,
        source_warns=recordable(source_warning(source_issued, source_expires)),
        once=not values.renewable,
        token_id=values.token_id,
        identity_id=values.identity_id,
        superseded=superseded[-MAX_ITEMS:],
    )
    return issuance, data


def _expiry(request: Request, values: PipelineValues, context: IssueContext) -> datetime:
    # Renewals and the status depend on the local clock, even if it is behind.
    expires = expiry(request.spec.formats, values, is_local=True)
    if expires is None:
        if context.last and is_unchanged(context.last.request_hash, request.request_hash):
            # With the same spec, the issuer stated it before. Some issuers state 0 for a token that is about to expire.
            raise TransientRefusalError("InvalidSpec", _unknown_expiry(request))
        raise UnknownExpiryError(_unknown_expiry(request))
    if expires <= context.now:
        raise TransientRefusalError(
            "SourceInvalid", "the issuer returned credentials that have already expired; check the node's clock"
        )
    # A record with a later expiry would be rejected when it is read, and each reconciliation would issue again.
    return min(expires, whole_seconds(context.now) + MAX_LIFETIME)


def _source_times(
    request: Request, values: PipelineValues, context: IssueContext
) -> tuple[datetime | None, datetime | None]:
    """Return when the source was issued and when it expires; None if it is consumed or created for each issue."""
    is_temporary = not values.renewable or request.spec.source.service_account is not None
    if is_temporary or values.source_token is None:
        return None, None
    token = values.source_token
    issued, expires = recordable(jwt_times(token.value).issued_at), recordable(token.expires_at)
    # A token without `iat` counts as issued now if its expiry differs from that of the last issue.
    is_known = context.last is not None and context.last.source_expires == expires
    return issued or (whole_seconds(context.now) if request.spec.consumption and not is_known else None), expires
