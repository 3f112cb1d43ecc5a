"""TokenRequests in every situation, as GitOps tools find them, and what these should make of it."""

from dataclasses import dataclass
from typing import Any

import msgspec

from keyturn.api.status import Status
from keyturn.core.errors import KeyturnError, RefusedError
from keyturn.core.issuance import Issuance
from keyturn.core.state import Failure
from keyturn.core.status import Outcome, invalid, report
from tests.support.dependencies import HOUR, MINUTE, NOW, manifest, request
from tests.unit.core.test_status import AWAY, FIRST, ISSUED, LATER, SECOND_ISSUE, WARNED

REFUSED = RefusedError("AccessDenied", "STS AssumeRole: AccessDenied")


@dataclass(frozen=True, slots=True)
class Situation:
    """A TokenRequest, what Flux's kstatus computes of it, and what Argo CD shows."""

    body: dict[str, Any]
    kstatus: str
    health: str


def _told(status: Status, **spec: Any) -> dict[str, Any]:
    return manifest(**spec) | {"status": msgspec.to_builtins(status)}


def _failed(error: KeyturnError, issuance: Issuance | None = None, *, hours: int = 0) -> dict[str, Any]:
    at = LATER + hours * HOUR
    return _told(report(request(), FIRST, Outcome(at, issuance, failure=Failure(error, 1, at + MINUTE, 1), tried=True)))


def _looked(outcome: Outcome, **spec: Any) -> dict[str, Any]:
    return _told(report(request(**spec), Status(), outcome), **spec)


def _with(body: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return body | {"metadata": body["metadata"] | metadata}


_GOOD = _looked(Outcome(NOW, ISSUED, "SecretMissing"))

SITUATIONS = {
    # The one that kstatus cannot know: what has no status counts as done.
    "just applied": Situation(manifest(), "Current", "Progressing"),
    "looked at, not tried": Situation(_looked(Outcome(NOW)), "InProgress", "Progressing"),
    "issued": Situation(_GOOD, "Current", "Healthy"),
    "renewed": Situation(_looked(Outcome(LATER, SECOND_ISSUE, "Due")), "Current", "Healthy"),
    "the source ends soon": Situation(_looked(Outcome(LATER, WARNED)), "Current", "Healthy"),
    "AWS is away, the Secret is valid": Situation(_failed(AWAY, ISSUED), "Current", "Healthy"),
    "AWS is away, never issued": Situation(_failed(AWAY), "InProgress", "Progressing"),
    "AWS is away, expired": Situation(_failed(AWAY, ISSUED, hours=2), "InProgress", "Degraded"),
    "refused, the Secret is valid": Situation(_failed(REFUSED, ISSUED), "Failed", "Degraded"),
    "refused, never issued": Situation(_failed(REFUSED), "Failed", "Degraded"),
    "a spec that cannot be read": Situation(_told(invalid(FIRST, 1, "no such field", NOW)), "Failed", "Degraded"),
    "suspended, the Secret is valid": Situation(_looked(Outcome(LATER, ISSUED), suspend=True), "Current", "Suspended"),
    "suspended, never issued": Situation(_looked(Outcome(LATER), suspend=True), "InProgress", "Suspended"),
    "changed, and not looked at since": Situation(_with(_GOOD, generation=2), "InProgress", "Progressing"),
    "being deleted": Situation(_with(_GOOD, deletionTimestamp="2026-01-02T03:04:05Z"), "Terminating", "Healthy"),
}
