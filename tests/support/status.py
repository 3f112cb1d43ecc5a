"""Statuses of a request and the outcomes that lead to them."""

from datetime import datetime

from msgspec.structs import replace

from keyturn.api.status import Status
from keyturn.core.errors import KeyturnError, UnavailableError
from keyturn.core.issuance import Issuance
from keyturn.core.state import Failure
from keyturn.core.status import Outcome, report
from tests.support.dependencies import DAY, MINUTE, NOW, ROLE, request
from tests.support.issuance import ISSUANCE

REQUEST = request()
ISSUED = replace(ISSUANCE, renew=NOW + 40 * MINUTE, principal=ROLE)
SECOND_ISSUE = replace(ISSUED, revision=2)
WARNED = replace(ISSUED, source_expires=NOW + DAY, source_warns=NOW)
UNREACHABLE = UnavailableError("Unreachable", "no response from STS")
LATER = NOW + MINUTE


def failed(error: KeyturnError, issuance: Issuance | None = None, at: datetime = LATER) -> Outcome:
    return Outcome(at, issuance, failure=Failure(error, 2, at + MINUTE, 1), tried=True)


def conditions(status: Status) -> dict[str, str]:
    return {c.type: f"{c.status} {c.reason}" for c in status.conditions}


def row(ready: str, renewed: str, stalled: str = "") -> dict[str, str]:
    return {"Ready": ready, "Renewed": renewed} | ({"Stalled": stalled} if stalled else {})


FIRST = report(REQUEST, Status(), Outcome(NOW, ISSUED, "SecretMissing", "id-1", tried=True))
