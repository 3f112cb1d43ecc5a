"""A TokenRequest as it is told to people: its pipeline, its times, how the last try went, what it waits for."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from keyturn.api.base import InvalidSpecError, member_name
from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.status import Status, read_status
from keyturn.api.times import read_time
from keyturn.api.token_request import Request, TokenRequestSpec, parse, renew_requested
from keyturn.cli.kubectl.humanize import both, length
from keyturn.core.errors import REASONS

# The field that tells most of a step, the first that it has.
_TELLING = ("role_arn", "token_url", "license_arn", "client_id", "domain", "identity_pool_id", "registry_ids")
_LATE = timedelta(minutes=1)
_OPERATOR = "is an operator running that works in this namespace?"


class Told(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What `status` says of a TokenRequest, with -o json too. `advice` is what a person should look at."""

    namespace: str
    name: str
    pipeline: tuple[str, ...]
    status: Status
    last_error: str = ""
    advice: tuple[str, ...] = ()

    def condition(self, kind: str) -> tuple[str, str]:
        """The status and the reason of a condition; Unknown where it is not told."""
        found = self.status.condition(kind)
        return (found.status, found.reason) if found else ("Unknown", "")


def tell(body: Mapping[str, Any], now: datetime) -> Told:
    """Read a TokenRequest as the API server gives it; what this release cannot read is said so."""
    about, status = body["metadata"], read_status(body)
    renewed = status.condition("Renewed")
    request, unread = _parsed(body)
    return Told(
        namespace=about.get("namespace", ""),
        name=about["name"],
        pipeline=tuple(_pipeline(request)) if request else (),
        status=status,
        last_error=renewed.message if renewed and renewed.status != "True" and renewed.reason in REASONS else "",
        advice=(*unread, *_advice(about, request, status, now)),
    )


def lines(told: Told, now: datetime) -> Iterator[str]:
    """Tell one TokenRequest."""
    status = told.status
    yield f"TokenRequest {told.namespace}/{told.name}"
    for condition in status.conditions:
        yield row(condition.type, f"{condition.status} {condition.reason}: {condition.message}")
    for number, step in enumerate(told.pipeline):
        yield row("Pipeline" if number == 0 else "", step)
    times = {
        "Issued": status.issue_time, "Expires": status.expiration_time, "Renews": status.renewal_time,
        "Last try": status.last_attempt_time, "Next try": status.next_attempt_time,
        "Source ends": status.source_expiration_time,
    }  # fmt: skip
    yield from (row(name, both(at, now)) for name, at in times.items() if at)
    if status.failed_attempts:
        yield row("Failures", f"{status.failed_attempts} in a row")
    yield from (row(name, value) for name, value in _issue(status) if value)
    yield from (row("Note", advice) for advice in told.advice)


def table(requests: list[Told], now: datetime, *, namespaces: bool) -> Iterator[str]:
    """Tell many, a line each, the column of namespaces where it is asked for."""
    head = ("NAMESPACE", "NAME", "READY", "REASON", "EXPIRES", "RENEWS", "LAST TRY", "NEXT TRY")
    rows = [head, *(cells(told, now) for told in requests)]
    shown = [row if namespaces else row[1:] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    for row in shown:
        yield "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def row(name: str, value: str) -> str:
    """A line of what is told."""
    return f"  {name:<12}{value}"


def cells(told: Told, now: datetime) -> tuple[str, ...]:
    """The line of one in the table."""
    status, (ready, reason) = told.status, told.condition("Ready")
    expires = read_time(status.expiration_time)
    if ready == "True" and expires and expires <= now:  # without an operator nobody writes that it is over
        reason += ", expired"
    renewed, why = told.condition("Renewed")
    went = "good" if renewed == "True" else why or "-"
    if told.condition("Stalled")[0] == "True":
        went += ", stalled"
    return (
        told.namespace,
        told.name,
        ready,
        reason,
        _short(status.expiration_time, now),
        _short(status.renewal_time, now),
        went,
        _short(status.next_attempt_time, now),
    )


def _parsed(body: Mapping[str, Any]) -> tuple[Request | None, tuple[str, ...]]:
    try:
        return parse(body), ()
    except InvalidSpecError as error:
        return None, (f"this release of kubectl keyturn cannot read the spec: {error.message}",)


def _pipeline(request: Request) -> Iterator[str]:
    spec = request.spec
    yield from _source(spec)
    yield from (f"-> {_step(exchange, spec.region)}" for exchange in spec.exchanges)
    yield f"-> Secret {request.secret_name}: {', '.join(wanted.name for wanted in spec.formats)}"


def _source(spec: TokenRequestSpec) -> Iterator[str]:
    token, credentials = spec.source.token, spec.source.credentials
    if token and token.secret_key_ref:
        kept = f", kept in Secret {spec.consumption.secret}" if spec.consumption else ""
        yield f"token: key {token.secret_key_ref.key} of Secret {token.secret_key_ref.name}{kept}"
    if token and token.service_account:
        yield f"token: of ServiceAccount {token.service_account.name}"
    if credentials:
        ref = credentials.secret_ref
        yield f"credentials: Secret {ref.name}" if ref else "credentials: the operator's own"


def _step(exchange: StepSpec, region: str | None) -> str:
    operation, name = exchange.exchange, member_name(exchange)
    found = next((value for field in _TELLING if (value := getattr(operation, field, None))), "")
    about = ", ".join(found) if isinstance(found, tuple) else found
    where = getattr(operation, "region", None) or (region if hasattr(operation, "region") else None)
    return " ".join(word for word in (name, about, f"({where})" if where else "") if word)


def _issue(status: Status) -> Iterator[tuple[str, str]]:
    yield "Principal", status.principal or ""
    yield "Revision", str(status.revision or "")


def _advice(about: Mapping[str, Any], request: Request | None, status: Status, now: datetime) -> Iterator[str]:
    generation, asked = about.get("generation", 0), renew_requested(about.get("annotations") or {})
    if "deletionTimestamp" in about:
        yield "it is being deleted"
    elif not status.conditions:
        yield f"no operator has looked at it yet; {_OPERATOR}"
    elif status.observed_generation < generation:
        yield f"this is of generation {status.observed_generation}, the spec is at {generation}; {_OPERATOR}"
    elif request and request.spec.suspend:
        yield "spec.suspend is set: nothing is renewed"
    else:
        yield from _waiting(asked, status, now)


def _waiting(asked: str, status: Status, now: datetime) -> Iterator[str]:
    due = read_time(status.next_attempt_time or status.renewal_time)
    if asked not in ("", status.last_handled_renew_request):
        tried = read_time(status.last_attempt_time)
        # Whoever has tried within this minute runs, and what was asked for since may be a second old.
        runs = tried is not None and now - tried < _LATE
        yield f"a renewal was asked for ({asked}) and has not begun" + ("" if runs else f"; {_OPERATOR}")
    if due and now - due > _LATE:
        yield f"what was to be tried is {length(now - due)} late; {_OPERATOR}"


def _short(told: str | None, now: datetime) -> str:
    moment = read_time(told)
    if moment is None:
        return "-"
    return length(moment - now) if moment >= now else f"{length(now - moment)} ago"
