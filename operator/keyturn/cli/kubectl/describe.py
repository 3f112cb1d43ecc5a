"""Describes a TokenRequest as text: its pipeline, its times, the result of the last attempt, and advice."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from keyturn.api.base import InvalidSpecError
from keyturn.api.exchanges.base import AwsExchangeSpec
from keyturn.api.status import Condition, Status, read_status
from keyturn.api.times import human_duration, read_time
from keyturn.api.token_request import Request, parse, renew_requested
from keyturn.cli.terminal import Color, ColoredLine
from keyturn.core.errors import REASONS

# Fields that identify an exchange, most specific first. The first field that is set is shown.
_IDENTIFYING_FIELDS = (
    "role_arn", "token_url", "license_arn", "client_id", "domain", "identity_pool_id", "registry_ids",
)  # fmt: skip
_OVERDUE = timedelta(minutes=1)
_HEADER = ("NAMESPACE", "NAME", "READY", "REASON", "EXPIRES", "RENEWAL", "LAST ATTEMPT", "NEXT ATTEMPT")
_WIDE = ("FAILURES", "PRINCIPAL")
_LEAST_WIDTH = 8
_OPERATOR_HINT = "is an operator running for this namespace?"
# Failures that concern the target, whatever the exchanges did. All others without a field concern the source.
_TARGET_REASONS = frozenset({"TargetConflict", "WriteDenied"})
_SOURCE_REASONS = frozenset({
    "SourceNotFound", "SourceKeyEmpty", "SourceForbidden", "SourceInvalid", "SourceExpired", "SourceConsumed",
    "StaleTokenRestored",
})  # fmt: skip


class PipelineStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step of the pipeline: the source, an exchange, or the target."""

    field: Annotated[str, Meta(description="Path of the field, such as spec.exchanges[1].assumeRole.")]
    description: Annotated[str, Meta(description="What the step is, in words.")]
    failed: Annotated[bool, Meta(description="Whether the last attempt failed at this step.")] = False


class RequestView(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A TokenRequest and its status, as `kubectl keyturn status` shows it."""

    namespace: Annotated[str, Meta(description="Namespace of the TokenRequest.")]
    name: Annotated[str, Meta(description="Name of the TokenRequest.")]
    pipeline: Annotated[
        tuple[PipelineStep, ...],
        Meta(description="The source, the exchanges and the target. Empty if the spec cannot be read."),
    ]
    status: Annotated[Status, Meta(description="The status of the TokenRequest, unchanged.")]
    advice: Annotated[tuple[str, ...], Meta(description="Problems that need attention, as sentences.")] = ()

    @property
    def last_error(self) -> str:
        """The message of the condition Renewed after a failure, otherwise empty."""
        renewed = self.status.condition("Renewed")
        return renewed.message if renewed and renewed.status != "True" and renewed.reason in REASONS else ""

    def condition(self, kind: str) -> tuple[str, str]:
        """Return status and reason of a condition; Unknown if it is not set."""
        condition = self.status.condition(kind)
        return (condition.status, condition.reason) if condition else ("Unknown", "")


def view_request(body: Mapping[str, Any], now: datetime) -> RequestView:
    """Build the view of a TokenRequest from the API server. A spec that cannot be parsed becomes advice."""
    meta, status = body["metadata"], read_status(body)
    try:
        request, parse_error = parse(body), ""
    except InvalidSpecError as error:
        request, parse_error = None, f"this version of kubectl keyturn cannot read the spec: {error.message}"
    return RequestView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        pipeline=tuple(_pipeline(request, _failed_field(status))) if request else (),
        status=status,
        advice=(*((parse_error,) if parse_error else ()), *_advice(meta, request, status, now)),
    )


def describe(view: RequestView, now: datetime) -> Iterator[str]:
    """Yield the lines that describe one TokenRequest."""
    status, renewed = view.status, view.status.condition("Renewed")
    yield f"TokenRequest {view.namespace}/{view.name}"
    for condition in status.conditions:
        color = _condition_color(condition)
        # After a failure, that of Renewed begins with the message of the other conditions.
        is_repeated = renewed and condition is not renewed and renewed.message.startswith(condition.message)
        details = " (see Renewed)" if is_repeated else f": {condition.message}"
        yield ColoredLine(row(condition.type, f"{condition.status} {condition.reason}{details}"), color)
    for number, step in enumerate(view.pipeline):
        arrow = "-> " if step.field.startswith(("spec.exchanges", "spec.target")) else ""
        mark = f"  <-- failed: {status.last_error.reason}" if step.failed and status.last_error else ""
        text = row("Pipeline" if number == 0 else "", f"{arrow}{step.description}{mark}")
        yield ColoredLine(text, "red" if mark else "")
    times = {
        "Issued": status.issue_time, "Expires": status.expiration_time, "Renewal": status.renewal_time,
        "Last attempt": status.last_attempt_time, "Next attempt": status.next_attempt_time,
    }  # fmt: skip
    if not (renewed and renewed.reason == "SourceNotFound"):
        times["Source expires"] = status.source_expiration_time
    yield from (row(name, absolute_and_relative(time, now)) for name, time in times.items() if time)
    if status.failed_attempts and renewed:
        since = absolute_and_relative(renewed.last_transition_time, now)
        yield row("Failures", f"{status.failed_attempts} in a row, since {since}")
    if status.principal:
        yield row("Principal", status.principal)
    if status.revision:
        yield row("Revision", str(status.revision))
    yield from (ColoredLine(row("Note", advice), "yellow") for advice in view.advice)


def table(views: list[RequestView], now: datetime, *, namespaces: bool, wide: bool = False) -> Iterator[str]:
    """Yield a table of TokenRequests, with a column of namespaces or more details if requested."""
    lines = [_HEADER + _WIDE, *(table_row(view, now) for view in views)]
    columns = slice(0 if namespaces else 1, None if wide else len(_HEADER))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for cells, color in zip(lines, ("", *map(_view_color, views)), strict=True):
        yield ColoredLine(_joined(cells[columns], widths[columns]), color)


class WatchRows:
    """Rows of a table that grows, with the time of each. The columns fit the TokenRequests that exist at the start."""

    def __init__(self, views: list[RequestView], now: datetime, *, namespaces: bool) -> None:
        self._columns = slice(0 if namespaces else 1, len(_HEADER))
        lines = [_HEADER + _WIDE, *(table_row(view, now) for view in views)]
        # Reasons and times that appear later may be longer than those of now.
        self._widths = [max(_LEAST_WIDTH, *map(len, column)) for column in zip(*lines, strict=True)]
        self.header = f"{'TIME':<11}{_joined(_HEADER[self._columns], self._widths[self._columns])}"

    def row(self, view: RequestView, now: datetime) -> str:
        """Return a row for what a TokenRequest is like now. The time is UTC."""
        cells = table_row(view, now)[self._columns]
        return ColoredLine(f"{now:%H:%M:%SZ}  {_joined(cells, self._widths[self._columns])}", _view_color(view))


def _view_color(view: RequestView) -> Color:
    """Red for credentials that cannot be used, yellow for those that are not renewed."""
    colors = {_condition_color(condition) for condition in view.status.conditions if condition.type != "Ready"}
    is_ready = view.condition("Ready")[0] != "False"
    return ("yellow" if colors - {""} else "") if is_ready else "red"


def _condition_color(condition: Condition) -> Color:
    good = "False" if condition.type == "Stalled" else "True"
    return "" if condition.status == good else "yellow" if condition.status == "Unknown" else "red"


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "   ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def row(name: str, value: str) -> str:
    """Format a name and a value as `kubectl describe` does."""
    return f"  {name:<16}{value}"


def table_row(view: RequestView, now: datetime) -> tuple[str, ...]:
    """Return the cells of one TokenRequest: the columns of a table, then those of a wide one."""
    status, (ready, reason) = view.status, view.condition("Ready")
    expires = read_time(status.expiration_time)
    # Without a running operator, nothing sets Ready to False.
    if ready == "True" and expires and expires <= now:
        reason += ", expired"
    renewed, renewed_reason = view.condition("Renewed")
    last_attempt = "succeeded" if renewed == "True" else renewed_reason or "-"
    if view.condition("Stalled")[0] == "True":
        last_attempt += ", stalled"
    return (
        view.namespace,
        view.name,
        ready,
        reason,
        _cell(status.expiration_time, now),
        _cell(status.renewal_time, now),
        last_attempt,
        _cell(status.next_attempt_time, now),
        str(status.failed_attempts),
        status.principal or "-",
    )


def absolute_and_relative(time: str | None, now: datetime) -> str:
    """Format a time of a status, such as `2026-01-02T04:04:05Z (in 55m)`; empty if there is none."""
    moment = read_time(time)
    return f"{time} ({relative(moment, now)})" if moment else ""


def relative(moment: datetime, now: datetime) -> str:
    """Format the distance of a time from now, such as `in 11h59m` or `5m ago`."""
    return f"in {human_duration(moment - now)}" if moment >= now else f"{human_duration(now - moment)} ago"


def _failed_field(status: Status) -> str:
    """Return the path of the field at which the last attempt failed; empty if there is none, or if it is unknown."""
    error = status.last_error
    if error is None:
        return ""
    default = "spec.target" if error.reason in _TARGET_REASONS else ""
    return error.field or ("spec.source" if error.reason in _SOURCE_REASONS else default)


def _pipeline(request: Request, failed_field: str) -> Iterator[PipelineStep]:
    for field, description in _steps(request):
        is_failed = failed_field != "" and f"{field}.".startswith(f"{failed_field}.")
        yield PipelineStep(field, description, is_failed)


def _steps(request: Request) -> Iterator[tuple[str, str]]:
    spec = request.spec
    token, credentials = spec.source.token, spec.source.credentials
    if token and token.secret_key_ref:
        stored = f", stored in Secret {spec.consumption.secret}" if spec.consumption else ""
        yield "spec.source.token", f"token: {token.secret_key_ref.description}{stored}"
    if token and token.service_account:
        yield "spec.source.token", f"token: ServiceAccount {token.service_account.name}"
    if credentials:
        ref = credentials.secret_ref
        identity = f"Secret {ref.name}" if ref else "the operator's ambient identity"
        yield "spec.source.credentials", f"credentials: {identity}"
    for number, step in enumerate(spec.exchanges):
        exchange = step.exchange
        value = next((value for field in _IDENTIFYING_FIELDS if (value := getattr(exchange, field, None))), "")
        # The query of a token endpoint may contain a key.
        identifier = ", ".join(value) if isinstance(value, tuple) else value.partition("?")[0]
        region = exchange.region or spec.region if isinstance(exchange, AwsExchangeSpec) else None
        words = (step.name, identifier, f"({region})" if region else "")
        yield f"spec.exchanges[{number}].{step.name}", " ".join(word for word in words if word)
    yield "spec.target", f"Secret {request.secret_name}: {', '.join(member.name for member in spec.formats)}"


def _advice(meta: Mapping[str, Any], request: Request | None, status: Status, now: datetime) -> Iterator[str]:
    generation = meta.get("generation", 0)
    if "deletionTimestamp" in meta:
        yield "the TokenRequest is being deleted: credentials are not renewed"
    elif not status.conditions:
        yield f"not reconciled yet; {_OPERATOR_HINT}"
    elif status.observed_generation < generation:
        yield f"the status describes generation {status.observed_generation}, not {generation}; {_OPERATOR_HINT}"
    elif request and request.spec.suspend:
        yield "spec.suspend is true: credentials are not renewed"
    else:
        requested = renew_requested(meta.get("annotations") or {})
        if requested not in ("", status.last_handled_renew_request):
            last_attempt = read_time(status.last_attempt_time)
            # An attempt within the last minute shows that an operator is running. The request may be newer than that.
            hint = "" if last_attempt and now - last_attempt < _OVERDUE else f"; {_OPERATOR_HINT}"
            yield f"the renewal requested at {requested} has not started{hint}"
        due = read_time(status.next_attempt_time or status.renewal_time)
        if due and now - due > _OVERDUE:
            yield f"the next attempt is overdue by {human_duration(now - due)}; {_OPERATOR_HINT}"


def _cell(time: str | None, now: datetime) -> str:
    moment = read_time(time)
    return relative(moment, now).removeprefix("in ") if moment else "-"
