"""The status of a TokenRequest. Times are RFC 3339, in UTC and whole seconds."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

MAX_REVISION = 2**53
MAX_PRINCIPAL_LENGTH, MAX_RENEW_REQUEST_LENGTH = 2048, 128
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})] | None


class Condition(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A condition, with the fields of Kubernetes' metav1.Condition."""

    type: Annotated[Literal["Ready", "Renewed", "Stalled"], Meta(description="Ready, Renewed or Stalled.")]
    status: Annotated[Literal["True", "False", "Unknown"], Meta(description="True, False or Unknown.")]
    reason: Annotated[str, Meta(max_length=1024, description="Reason for the last transition, in CamelCase.")]
    message: Annotated[str, Meta(max_length=32768, description="Details of the last transition.")]
    last_transition_time: Annotated[
        str,
        Meta(
            extra_json_schema={"format": "date-time"}, description="Time at which the status of the condition changed."
        ),
    ]
    observed_generation: Annotated[int, Meta(description="The generation that the condition was computed from.")] = 0


class LastError(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Why the last attempt failed."""

    reason: Annotated[str, Meta(max_length=128, description="One of the reasons of the condition Renewed.")]
    message: Annotated[str, Meta(max_length=1024, description="What failed.")]
    # Encoded even if it is null: in a merge patch, only null removes an old ID.
    request_id: Annotated[str, Meta(max_length=256, description="The AWS request ID.")] | None = None


class Status(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel", omit_defaults=True):
    """Observed state. It never causes a renewal; after a restart Keyturn reads it to continue a wait."""

    observed_generation: Annotated[int, Meta(description="The generation that this status was computed from.")] = 0
    conditions: Annotated[
        tuple[Condition, ...],
        Meta(
            extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
            description="Ready: the credentials in the Secret are usable now. Renewed: the last renewal attempt"
            " succeeded. Stalled: renewal cannot succeed until a person acts.",
        ),
    ] = ()
    secret_name: Annotated[str, Meta(description="Name of the Secret with the credentials.")] | None = None
    issue_time: Annotated[Time, Meta(description="Time at which the current credentials were issued.")] = None
    expiration_time: Annotated[
        Time, Meta(description="Time at which the current credentials expire (the earliest, if they differ).")
    ] = None
    renewal_time: Annotated[Time, Meta(description="Time of the next scheduled renewal.")] = None
    last_attempt_time: Annotated[Time, Meta(description="Time of the last renewal attempt.")] = None
    next_attempt_time: Annotated[Time, Meta(description="Time of the next attempt, after a failure.")] = None
    last_error: Annotated[LastError, Meta(description="Last error, until an attempt succeeds.")] | None = None
    failed_attempts: Annotated[int, Meta(ge=0, description="Number of consecutive failed attempts.")] = 0
    # The issuance record has the same limits: one with a number outside of them could not be read back.
    revision: Annotated[
        int, Meta(ge=0, le=MAX_REVISION, description="Number of times that credentials were issued.")
    ] = 0
    principal: (
        Annotated[
            str,
            Meta(
                max_length=MAX_PRINCIPAL_LENGTH, description="Principal of the current credentials, as AWS reports it."
            ),
        ]
        | None
    ) = None
    source_expiration_time: Annotated[
        Time, Meta(description="Time at which the source credential expires, if it is known.")
    ] = None
    last_handled_renew_request: (
        Annotated[
            str,
            Meta(
                max_length=MAX_RENEW_REQUEST_LENGTH,
                description="The last value of the annotation keyturn.dev/renew-requested-at that was handled.",
            ),
        ]
        | None
    ) = None

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of a type, if it is set."""
        return next((c for c in self.conditions if c.type == kind), None)


def read_status(body: Mapping[str, Any]) -> Status:
    """Read the status of a TokenRequest. An invalid status counts as empty, because anyone may write one."""
    try:
        status = msgspec.convert(body.get("status") or {}, Status)
        for time in (status.next_attempt_time, status.last_attempt_time, status.expiration_time):
            datetime.fromisoformat(time or "2000-01-01T00:00:00Z")
    except ValueError:
        return Status()
    return status
