"""The status of a TokenRequest. Times are RFC 3339, in UTC and whole seconds."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

MAX_REVISION = 2**53
MAX_PRINCIPAL_LENGTH, MAX_RENEW_REQUEST_LENGTH = 2048, 128
# Keyturn's own status needs less, even if each character of its messages takes six bytes.
MAX_STATUS_BYTES = 32 * 1024
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})] | None


ConditionType = Literal["Ready", "Renewed", "Stalled"]
ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A condition, with the fields of Kubernetes' metav1.Condition."""

    type: Annotated[ConditionType, Meta(description="Ready, Renewed or Stalled.")]
    status: Annotated[ConditionStatus, Meta(description="True, False or Unknown.")]
    reason: Annotated[
        str,
        Meta(
            max_length=1024, description="Reason for the status of the condition, in CamelCase, such as SourceInvalid."
        ),
    ]
    message: Annotated[
        str, Meta(max_length=32768, description="Details of the reason, for people. Programs must not parse it.")
    ]
    last_transition_time: Annotated[
        str,
        Meta(
            extra_json_schema={"format": "date-time"},
            description="Time at which the status of the condition last changed.",
        ),
    ]
    observed_generation: Annotated[
        int, Meta(description="The generation of the TokenRequest that the condition was computed from.")
    ] = 0


class LastError(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Why the last attempt failed."""

    reason: Annotated[str, Meta(max_length=128, description="One of the reasons of the condition Renewed.")]
    message: Annotated[str, Meta(max_length=1024, description="What failed.")]
    # Encoded even if they are null: in a merge patch, only null removes an old value.
    field: (
        Annotated[
            str,
            Meta(max_length=128, description="Exchange that failed, if one did, such as spec.exchanges[1].assumeRole."),
        ]
        | None
    ) = None
    request_id: (
        Annotated[str, Meta(max_length=256, description="The request ID with which AWS support can find the call.")]
        | None
    ) = None


class Status(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel", omit_defaults=True):
    """Observed state. It never causes a renewal. After a restart, Keyturn reads it to continue a wait."""

    observed_generation: Annotated[
        int, Meta(description="The generation of the TokenRequest that this status was computed from.")
    ] = 0
    conditions: Annotated[
        tuple[Condition, ...],
        Meta(
            extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
            description="Ready: the credentials in the Secret are usable now. Renewed: the last renewal attempt"
            " succeeded. Stalled: renewal cannot succeed until a person acts.",
        ),
    ] = ()
    secret_name: Annotated[str, Meta(description="Name of the Secret with the credentials.")] | None = None
    issue_time: Annotated[Time, Meta(description="Time at which Keyturn issued the credentials in the Secret.")] = None
    expiration_time: Annotated[
        Time, Meta(description="Time at which the credentials in the Secret expire (the earliest, if they differ).")
    ] = None
    renewal_time: Annotated[
        Time, Meta(description="Time at which Keyturn renews the credentials, if nothing changes before.")
    ] = None
    last_attempt_time: Annotated[
        Time, Meta(description="Time at which Keyturn last tried to renew the credentials.")
    ] = None
    next_attempt_time: Annotated[Time, Meta(description="Time at which Keyturn tries again after a failure.")] = None
    last_error: (
        Annotated[LastError, Meta(description="Why the last attempt failed, until an attempt succeeds.")] | None
    ) = None
    failed_attempts: Annotated[int, Meta(ge=0, description="Number of attempts that have failed in a row.")] = 0
    # The issuance record has the same limits: one with a number outside of them could not be read back.
    revision: Annotated[
        int,
        Meta(
            ge=0,
            le=MAX_REVISION,
            description="Number of times that Keyturn has issued credentials for this TokenRequest.",
        ),
    ] = 0
    principal: (
        Annotated[
            str,
            Meta(
                max_length=MAX_PRINCIPAL_LENGTH,
                description="Principal of the credentials in the Secret, as AWS reports it, such as the ARN"
                " of an assumed role.",
            ),
        ]
        | None
    ) = None
    source_expiration_time: Annotated[
        Time, Meta(description="Time at which the source credential, such as a refresh token, expires, if it is known.")
    ] = None
    last_handled_renew_request: (
        Annotated[
            str,
            Meta(
                max_length=MAX_RENEW_REQUEST_LENGTH,
                description="The last value of the annotation keyturn.dev/renew-requested-at that Keyturn has handled.",
            ),
        ]
        | None
    ) = None

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of a type, if it is set."""
        return next((c for c in self.conditions if c.type == kind), None)


def read_status(body: Mapping[str, Any]) -> Status:
    """Read the status of a TokenRequest. An invalid or large status counts as empty, because anyone may write one."""
    fields = body.get("status") or {}
    if len(msgspec.json.encode(fields)) > MAX_STATUS_BYTES:
        return Status()
    try:
        status = msgspec.convert(fields, Status)
        for time in (status.next_attempt_time, status.last_attempt_time, status.expiration_time):
            datetime.fromisoformat(time or "2000-01-01T00:00:00Z")
    except ValueError:
        return Status()
    return status
