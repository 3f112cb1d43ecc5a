"""AWS STS."""

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from keyturn.core.model.exchanges.operation import AwsOperation, ReadFrom
from keyturn.core.model.part import Kind

RoleArn = Annotated[
    str,
    Meta(
        min_length=20,
        max_length=2048,
        pattern=r"^arn:aws[-a-z0-9]*:iam::[0-9]{12}:role/[!-~]+\Z",
        description="ARN of the role.",
    ),
]
RoleSessionName = Annotated[
    str,
    Meta(
        min_length=2,
        max_length=64,
        pattern=r"^[A-Za-z0-9_+=,.@-]*\Z",
        description="Name of the session in CloudTrail. Default: <namespace>.<name> of the TokenRequest.",
    ),
]
DEFAULT_ROLE_SECONDS = 3600
DEFAULT_SESSION_SECONDS = 43200


class AssumeRoleWithWebIdentity(AwsOperation, frozen=True, kw_only=True):
    """sts AssumeRoleWithWebIdentity (unsigned): an ID token or access token for the credentials of a role."""

    DEFAULT_SECONDS: ClassVar[int | None] = DEFAULT_ROLE_SECONDS

    role_arn: RoleArn
    from_: ReadFrom | None = msgspec.field(default=None, name="from")
    role_session_name: RoleSessionName | None = None
    duration_seconds: (
        Annotated[
            int,
            Meta(
                ge=900,
                le=43200,
                description="Wanted lifetime in seconds, up to the role's maximum. Default: 3600.",
            ),
        ]
        | None
    ) = None


class AssumeRole(AwsOperation, frozen=True, kw_only=True):
    """sts AssumeRole: credentials for the credentials of a role."""

    NEEDS: ClassVar[tuple[Kind, ...]] = ("credentials",)
    DEFAULT_SECONDS: ClassVar[int | None] = DEFAULT_ROLE_SECONDS

    role_arn: RoleArn
    role_session_name: RoleSessionName | None = None
    duration_seconds: (
        Annotated[
            int,
            Meta(
                ge=900,
                le=43200,
                description="Wanted lifetime in seconds, up to the role's maximum; at most 3600 after another"
                " role. Default: 3600.",
            ),
        ]
        | None
    ) = None


class GetSessionToken(AwsOperation, frozen=True, kw_only=True):
    """sts GetSessionToken: the long-lived keys of an IAM user for short-lived credentials of the same user."""

    NEEDS: ClassVar[tuple[Kind, ...]] = ("credentials",)
    DEFAULT_SECONDS: ClassVar[int | None] = DEFAULT_SESSION_SECONDS

    duration_seconds: (
        Annotated[int, Meta(ge=900, le=129600, description="Wanted lifetime in seconds. Default: 43200.")] | None
    ) = None
