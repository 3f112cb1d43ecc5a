"""Statuses of a request and the outcomes that lead to them."""

from datetime import datetime

from msgspec.structs import replace

from keyturn.api.status import Status
from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError, UnavailableError
from keyturn.core.issuance import Issuance
from keyturn.core.renewal import Postponed
from keyturn.core.state import Failure
from keyturn.core.status import Event, Outcome, events, report
from tests.support.dependencies import DAY, HOUR, MINUTE, NOW, ROLE, request
from tests.support.issuance import ISSUANCE

REQUEST = request()
ISSUED = replace(ISSUANCE, renew=NOW + 40 * MINUTE, principal=ROLE)
SECOND_ISSUE = replace(ISSUED, revision=2)
WARNED = replace(ISSUED, source_expires=NOW + DAY, source_warns=NOW)
UNREACHABLE = UnavailableError("Unreachable", "no response from STS")
LATER = NOW + MINUTE


DELETED = "Secret acme was deleted again; it will be recreated at 2026-01-02T03:34:05Z"


def failed(error: KeyturnError, issuance: Issuance | None = None, at: datetime = LATER) -> Outcome:
    return Outcome(at, issuance, failure=Failure(error, 2, at + MINUTE, 1), tried=True)


def conditions(status: Status) -> dict[str, str]:
    return {c.type: f"{c.status} {c.reason}" for c in status.conditions}


def row(ready: str, renewed: str, stalled: str = "") -> dict[str, str]:
    return {"Ready": ready, "Renewed": renewed} | ({"Stalled": stalled} if stalled else {})


FIRST = report(REQUEST, Status(), Outcome(NOW, ISSUED, "SecretMissing", "id-1", tried=True))


def recorded(previous: Status, outcome: Outcome, token_request: Request = REQUEST) -> list[Event]:
    return list(events(previous, report(token_request, previous, outcome), outcome))


def reasons(previous: Status, outcome: Outcome, token_request: Request = REQUEST) -> list[str]:
    return [event.reason for event in recorded(previous, outcome, token_request)]


def postponed(reason: str, issuance: Issuance | None = None, damage: str = "") -> Outcome:
    return Outcome(LATER, issuance, damage=damage, postponed=Postponed(reason, NOW + HOUR / 2))
