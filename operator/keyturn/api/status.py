"""What is told in the status of a TokenRequest. Times are RFC 3339, whole seconds, UTC."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})] | None


class Condition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A condition as Kubernetes' metav1.Condition has it."""

    type: Literal["Ready", "Renewed", "Stalled"]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Meta(max_length=1024)]
    message: Annotated[str, Meta(max_length=32768)]
    last_transition_time: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
    observed_generation: int = 0


class Status(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A report. It may delay a try; it never causes one."""

    observed_generation: Annotated[int, Meta(description="The generation that this status speaks of.")] = 0
    conditions: Annotated[
        tuple[Condition, ...],
        Meta(
            extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
            description="Ready: the Secret can be used now. Renewed: how the last try went."
            " Stalled: a person must act.",
        ),
    ] = ()
    secret_name: Annotated[str, Meta(description="The Secret that holds the credentials.")] | None = None
    issue_time: Annotated[Time, Meta(description="When they were issued.")] = None
    expiration_time: Annotated[Time, Meta(description="When the first of them expires.")] = None
    renewal_time: Annotated[Time, Meta(description="When they are renewed.")] = None
    last_attempt_time: Annotated[Time, Meta(description="When an exchange was last tried.")] = None
    next_attempt_time: Annotated[Time, Meta(description="After a failure: when it is tried again.")] = None
    failed_attempts: Annotated[int, Meta(description="Failures in a row.")] = 0
    revision: Annotated[int, Meta(description="How often credentials were issued.")] = 0
    principal: Annotated[str, Meta(description="Whose credentials they are, as AWS message.")] | None = None
    source_expiration_time: Annotated[Time, Meta(description="When the source ends, where that is known.")] = None
    last_handled_renew_request: (
        Annotated[str, Meta(description="The keyturn.dev/renew-requested-at that was last acted upon.")] | None
    ) = None

    def condition(self, kind: str) -> Condition | None:
        """The condition of a type, if it is there."""
        return next((c for c in self.conditions if c.type == kind), None)


def read_status(body: Mapping[str, Any]) -> Status:
    """Read the status of a TokenRequest; what does not fit counts as not told."""
    try:
        status = msgspec.convert(body.get("status") or {}, Status)
        for moment in (status.next_attempt_time, status.last_attempt_time, status.expiration_time):
            datetime.fromisoformat(moment or "2000-01-01T00:00:00Z")
    except ValueError:
        return Status()
    return status
