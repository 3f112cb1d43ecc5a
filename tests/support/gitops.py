"""TokenRequests in every state, and the health that GitOps tools should derive from them."""

from dataclasses import dataclass
from typing import Any

import msgspec

from keyturn.api.status import Status
from keyturn.core.errors import KeyturnError, RefusedError
from keyturn.core.issuance import Issuance
from keyturn.core.renewal import Postponed
from keyturn.core.state import Failure
from keyturn.core.status import Outcome, invalid, report
from tests.support.dependencies import HOUR, MINUTE, NOW, manifest, request
from tests.support.status import FIRST, ISSUED, LATER, SECOND_ISSUE, UNREACHABLE, WARNED

REFUSED = RefusedError("AccessDenied", "STS AssumeRole: AccessDenied")


@dataclass(frozen=True, slots=True)
class Situation:
    """A TokenRequest, its status by Flux's kstatus, and its health in Argo CD."""

    body: dict[str, Any]
    kstatus: str
    health: str


def _with_status(status: Status, **spec: Any) -> dict[str, Any]:
    return manifest(**spec) | {"status": msgspec.to_builtins(status)}


def _failed(error: KeyturnError, issuance: Issuance | None = None, *, hours: int = 0) -> dict[str, Any]:
    at = LATER + hours * HOUR
    return _with_status(
        report(request(), FIRST, Outcome(at, issuance, failure=Failure(error, 1, at + MINUTE, 1), tried=True))
    )


def _reconciled(outcome: Outcome, **spec: Any) -> dict[str, Any]:
    return _with_status(report(request(**spec), Status(), outcome), **spec)


def _with_metadata(body: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return body | {"metadata": body["metadata"] | metadata}


_ISSUED = _reconciled(Outcome(NOW, ISSUED, "SecretMissing"))

SITUATIONS = {
    # kstatus treats an object without status as current.
    "just applied": Situation(manifest(), "Current", "Progressing"),
    "reconciled, not tried": Situation(_reconciled(Outcome(NOW)), "InProgress", "Progressing"),
    "issued": Situation(_ISSUED, "Current", "Healthy"),
    "renewed": Situation(_reconciled(Outcome(LATER, SECOND_ISSUE, "Due")), "Current", "Healthy"),
    "the source expires soon": Situation(_reconciled(Outcome(LATER, WARNED)), "Current", "Healthy"),
    "AWS is unreachable, the Secret is valid": Situation(_failed(UNREACHABLE, ISSUED), "Current", "Healthy"),
    "AWS is unreachable, never issued": Situation(_failed(UNREACHABLE), "InProgress", "Progressing"),
    "AWS is unreachable, expired": Situation(_failed(UNREACHABLE, ISSUED, hours=2), "InProgress", "Degraded"),
    "refused, the Secret is valid": Situation(_failed(REFUSED, ISSUED), "Failed", "Degraded"),
    "refused, never issued": Situation(_failed(REFUSED), "Failed", "Degraded"),
    "new formats wait for a renewal": Situation(
        _reconciled(Outcome(LATER, postponed=Postponed("WaitingForRenewal", LATER + HOUR))), "InProgress", "Progressing"
    ),
    "edited, not corrected yet": Situation(
        _reconciled(Outcome(LATER, ISSUED, damage="DriftDetected")), "InProgress", "Progressing"
    ),
    "an invalid spec": Situation(_with_status(invalid(FIRST, 1, "no such field", NOW)), "Failed", "Degraded"),
    "suspended, the Secret is valid": Situation(
        _reconciled(Outcome(LATER, ISSUED), suspend=True), "Current", "Suspended"
    ),
    "suspended, never issued": Situation(_reconciled(Outcome(LATER), suspend=True), "InProgress", "Suspended"),
    "changed, not reconciled since": Situation(_with_metadata(_ISSUED, generation=2), "InProgress", "Progressing"),
    "being deleted": Situation(
        _with_metadata(_ISSUED, deletionTimestamp="2026-01-02T03:04:05Z"), "Terminating", "Healthy"
    ),
}
