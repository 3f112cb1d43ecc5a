"""The operations that turn what is held into something shorter-lived, one type each."""

from typing import Annotated, ClassVar

from msgspec import Meta

from keyturn.core.model.part import Part, Region, Rule, exactly_one_of

RoleArn = Annotated[
    str, Meta(min_length=20, max_length=2048, pattern=r"^arn:aws[-a-z0-9]*:iam::[0-9]{12}:role/[!-~]+\Z")
]
RoleSessionName = Annotated[str, Meta(min_length=2, max_length=64, pattern=r"^[A-Za-z0-9_+=,.@-]*\Z")]
DurationSeconds = Annotated[int, Meta(ge=900, le=43200)]
OwnRegion = Annotated[Region, Meta(description="AWS region of this exchange. Default: spec.region.")] | None


class LicenseManagerGetAccessToken(Part, frozen=True):
    """license-manager GetAccessToken: a refresh token for an access token that lives one hour."""

    region: OwnRegion = None
    token_properties: (
        Annotated[
            tuple[str, ...],
            Meta(max_length=3, description="Values that the token's own properties must hold."),
        ]
        | None
    ) = None


class AssumeRoleWithWebIdentity(Part, frozen=True):
    """sts AssumeRoleWithWebIdentity (unsigned): an ID token or access token for the credentials of a role."""

    role_arn: Annotated[RoleArn, Meta(description="ARN of the role.")]
    role_session_name: (
        Annotated[
            RoleSessionName,
            Meta(
                description="Name of the session in CloudTrail. Default: <namespace>.<name> of the TokenRequest."
            ),
        ]
        | None
    ) = None
    duration_seconds: (
        Annotated[
            DurationSeconds,
            Meta(description="Wanted lifetime in seconds, up to the role's maximum. Default: 3600."),
        ]
        | None
    ) = None
    region: OwnRegion = None


Operation = LicenseManagerGetAccessToken | AssumeRoleWithWebIdentity


class Exchange(Part, frozen=True):
    """One step of the pipeline: exactly one operation."""

    license_manager_get_access_token: LicenseManagerGetAccessToken | None = None
    assume_role_with_web_identity: AssumeRoleWithWebIdentity | None = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        exactly_one_of("licenseManagerGetAccessToken", "assumeRoleWithWebIdentity"),
    )

    @property
    def operation(self) -> Operation:
        """The one member that is set."""
        return self.license_manager_get_access_token or self.assume_role_with_web_identity  # type: ignore[return-value]
