"""What a pipeline starts with, and what is written of what it gave."""

import math
from dataclasses import dataclass
from datetime import datetime

from keyturn.api.times import rfc3339, whole
from keyturn.api.token_request import Request
from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.formats.registry import expiry, render
from keyturn.core.issuance import LONGEST_LIFE, Issuance, data_hash, kept_identity
from keyturn.core.pipeline_values import PipelineValues, SourceValues, Superseded, Token, jwt_times
from keyturn.core.renewal import Failure, source_warning, when_to_renew
from keyturn.core.token_family import StoredToken

_REMEMBERED = 100


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What an issue is marked with besides what it gave: the source's fingerprint, the last issue, its number."""

    source: str
    last: Issuance | None
    revision: int
    rand: float
    now: datetime


def check_not_spent(kept: StoredToken | None, failure: Failure | None) -> None:
    """Raise RefusedError (SourceConsumed) where what the user handed in works only once, and has been used."""
    if kept is None or not kept.is_consumed:
        return
    if failure and failure.error.reason == "SourceConsumed":
        raise RefusedError("SourceConsumed", failure.error.message)
    why = f"; the last try failed: {failure.error.message}" if failure else ""
    raise RefusedError("SourceConsumed", f"what the source holds works once, and is used; put a new one there{why}")


def start(request: Request, source: SourceValues, kept: StoredToken | None, given: Circumstances) -> PipelineValues:
    """What the pipeline starts with. A token whose own words say that it has expired is not sent anywhere."""
    once = request.spec.consumption is not None and request.spec.consumption.is_single_use
    value = kept.value if kept and not once else source.token
    token = Token(value, jwt_times(value)[1]) if value else None
    # What was answered for it may live on.
    needed = kept is None or kept.answered is None or not once
    if needed and token and token.expires_at and token.expires_at <= given.now:
        raise RefusedError("SourceExpired", f"the source token expired at {rfc3339(token.expires_at)}")
    return PipelineValues(
        source_token=token,
        credentials=source.credentials,
        revision=given.revision,
        identity_id=kept_identity(given.last, request),
        superseded=given.last.superseded if given.last else (),
    )


def issue(request: Request, values: PipelineValues, given: Circumstances) -> tuple[Issuance, dict[str, str]]:
    """Render what is held, and pick the renewal time, once.

    Raises RefusedError (InvalidSpec) for what nobody says the end of, UnavailableError for what is over.
    """
    issued, jitter = whole(given.now), math.floor(given.rand * 1000) / 1000
    expires = _end(request, values, given.now)
    data = render(request, values)
    source_issued, source_expires = _source_times(request, values, given)
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
        source=given.source,
        revision=values.revision,
        keys=tuple(data),
        handled_renew_request=request.renew_requested,
        principal=values.principal,
        source_expires=source_expires,
        source_warns=source_warning(source_issued, source_expires),
        once=values.ends,
        token_id=values.token_id,
        identity_id=values.identity_id,
        superseded=_superseded(values, given.last, issued),
    )
    return issuance, data


def _end(request: Request, values: PipelineValues, now: datetime) -> datetime:
    expires = expiry(request.spec.formats, values)
    if expires is None:
        raise RefusedError(
            "InvalidSpec", "nothing says when the token that is written ends, so it cannot be renewed in time"
        )
    if expires <= now:
        raise UnavailableError("Unavailable", "the issuer answered what has expired already; is this clock right?")
    # Marks of what lives longer would not count, and it would be issued again and again.
    return min(expires, whole(now) + LONGEST_LIFE)


def _source_times(
    request: Request, values: PipelineValues, given: Circumstances
) -> tuple[datetime | None, datetime | None]:
    """When the source began and ends; the end of what is used up, or is made anew each time, is no news."""
    passing = values.ends or request.spec.source.service_account is not None
    if passing or values.source_token is None:
        return None, None
    issued, expires = jwt_times(values.source_token.value)
    # Where `iat` is left out, a token that ends otherwise than the one before is as old as this issue.
    known = given.last is not None and given.last.source_expires == expires
    return issued or (whole(given.now) if request.spec.consumption and not known else None), expires


def _superseded(values: PipelineValues, last: Issuance | None, now: datetime) -> tuple[Superseded, ...]:
    """Which tokens of before are not revoked, the one that is followed now among them."""
    followed = last is not None and last.token_id not in ("", values.token_id)
    before = (Superseded(last.token_id, now),) if last and followed else ()
    return (*values.superseded, *before)[-_REMEMBERED:]
