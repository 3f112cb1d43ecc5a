"""The operations that turn what is held into something shorter-lived, one type each."""

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from keyturn.core.model.part import Part, Region, exactly_one_of
from keyturn.core.model.source import SecretValue

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


class Operation(Part, frozen=True):
    """What every operation tells of itself: what it needs and gives, a token or credentials.

    `DEFAULT_SECONDS` is the lifetime that AWS gives where none is asked for, None where it cannot be chosen.
    """

    NEEDS: ClassVar[str] = "token"
    GIVES: ClassVar[str] = "credentials"
    DEFAULT_SECONDS: ClassVar[int | None] = None

    @property
    def consumes(self) -> bool:
        """Whether the answer may replace the source token: what was sent is then spent."""
        return False

    @property
    def references(self) -> tuple[SecretValue, ...]:
        """The step's own secrets."""
        return tuple(v for v in msgspec.structs.astuple(self) if isinstance(v, SecretValue))


class AwsOperation(Operation, frozen=True):
    """An operation of AWS, in a region."""

    region: Annotated[Region, Meta(description="AWS region of this exchange. Default: spec.region.")] | None = None


class LicenseManagerGetAccessToken(AwsOperation, frozen=True, kw_only=True):
    """license-manager GetAccessToken: a refresh token for an access token that lives one hour."""

    GIVES: ClassVar[str] = "token"

    token_properties: (
        Annotated[
            tuple[str, ...],
            Meta(max_length=3, description="Values that the token's own properties must hold."),
        ]
        | None
    ) = None


class AssumeRoleWithWebIdentity(AwsOperation, frozen=True, kw_only=True):
    """sts AssumeRoleWithWebIdentity (unsigned): an ID token or access token for the credentials of a role."""

    DEFAULT_SECONDS: ClassVar[int | None] = DEFAULT_ROLE_SECONDS

    role_arn: RoleArn
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

    NEEDS: ClassVar[str] = "credentials"
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

    NEEDS: ClassVar[str] = "credentials"
    DEFAULT_SECONDS: ClassVar[int | None] = DEFAULT_SESSION_SECONDS

    duration_seconds: (
        Annotated[int, Meta(ge=900, le=129600, description="Wanted lifetime in seconds. Default: 43200.")] | None
    ) = None


class OauthToken(Operation, frozen=True, kw_only=True):
    """A token endpoint of OAuth 2.0 (RFC 6749): a refresh token for an access token, at any issuer."""

    GIVES: ClassVar[str] = "token"

    token_url: Annotated[
        str,
        Meta(max_length=2048, pattern=r"^https://[^/?#@\s]+(/[^?#\s]*)?\Z", description="The token endpoint."),
    ]
    grant_type: Annotated[Literal["refresh_token"], Meta(description="RFC 6749 section 6.")]
    client_id: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=1024,
            pattern=r"^[ -~]+\Z",
            description="The client that the token was given to.",
        ),
    ]
    client_secret_from: Annotated[SecretValue, Meta(description="The client's secret.")] | None = None
    client_authentication: (
        Annotated[
            Literal["basic", "post"],
            Meta(description="How the client's secret is sent (RFC 6749 section 2.3.1). Default: basic."),
        ]
        | None
    ) = None
    scope: (
        Annotated[
            tuple[Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[!#-\[\]-~]+\Z")], ...],
            Meta(max_length=64, description="Scopes to ask for. Default: those of the token."),
        ]
        | None
    ) = None
    ca_bundle_from: (
        Annotated[SecretValue, Meta(description="Certificates (PEM) that are trusted instead of the usual ones.")]
        | None
    ) = None

    @property
    def consumes(self) -> bool:
        """Whether the answer may replace the source token: any issuer may rotate a refresh token."""
        return self.grant_type == "refresh_token"


AnyOperation = LicenseManagerGetAccessToken | AssumeRoleWithWebIdentity | AssumeRole | GetSessionToken | OauthToken


class Exchange(Part, frozen=True):
    """One step of the pipeline: exactly one operation."""

    license_manager_get_access_token: LicenseManagerGetAccessToken | None = None
    oauth_token: OauthToken | None = None
    assume_role_with_web_identity: AssumeRoleWithWebIdentity | None = None
    assume_role: AssumeRole | None = None
    get_session_token: GetSessionToken | None = None

    @property
    def operation(self) -> AnyOperation:
        """The one member that is set."""
        members: tuple[AnyOperation | None, ...] = msgspec.structs.astuple(self)
        return next(member for member in members if member is not None)


# By name in a manifest.
OPERATIONS: dict[str, type[Operation]] = {
    field.encode_name: field.type.__args__[0] for field in msgspec.structs.fields(Exchange)
}
# Where the steps name secrets of their own: operation and field.
REFERENCES = [
    (name, field.encode_name)
    for name, operation in OPERATIONS.items()
    for field in msgspec.structs.fields(operation)
    if field.name.endswith("_from")
]
Exchange.RULES = (exactly_one_of(*OPERATIONS),)
