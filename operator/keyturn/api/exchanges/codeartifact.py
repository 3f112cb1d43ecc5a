"""AWS CodeArtifact."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from keyturn.api.base import ApiStruct, Kind, Rule
from keyturn.api.exchanges.base import AwsExchangeSpec

DEFAULT_TOKEN_SECONDS = 43200
_LEAST_TOKEN_SECONDS = 900
PackageFormat = Literal["npm", "pypi", "maven", "nuget", "generic", "ruby", "swift", "cargo"]


class Repository(ApiStruct, frozen=True):
    """A repository, and for which package formats its endpoints are wanted."""

    repository: Annotated[
        str,
        Meta(
            min_length=2,
            max_length=100,
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,99}\Z",
            description="Name of the repository.",
        ),
    ]
    formats: Annotated[
        tuple[PackageFormat, ...],
        Meta(min_length=1, max_length=8, description="Package formats, one endpoint each."),
    ]
    endpoint_type: (
        Annotated[
            Literal["dualstack", "ipv4"],
            Meta(description="Whether the endpoints have IPv6 addresses too. Default: AWS's, which is ipv4."),
        ]
        | None
    ) = None


class CodeArtifactGetAuthorizationTokenSpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """codeartifact GetAuthorizationToken: credentials for a token that opens the repositories of a domain.

    The caller needs codeartifact:GetAuthorizationToken and sts:GetServiceBearerToken. The token outlives the
    session that it was made with, and nothing revokes it.
    """

    REQUIRES: ClassVar[tuple[Kind, ...]] = ("credentials",)
    PRODUCES: ClassVar[tuple[Kind, ...]] = ("token", "packageEndpoints")
    DEFAULT_SECONDS: ClassVar[int | None] = DEFAULT_TOKEN_SECONDS

    domain: Annotated[
        str,
        Meta(
            min_length=2,
            max_length=50,
            pattern=r"^[a-z][a-z0-9-]{0,48}[a-z0-9]\Z",
            description="Name of the domain.",
        ),
    ]
    domain_owner: (
        Annotated[
            str,
            Meta(
                min_length=12,
                max_length=12,
                pattern=r"^[0-9]{12}\Z",
                description="Account that owns the domain. Default: the caller's. Where it is given, endpoints are"
                " asked for once and not with each renewal.",
            ),
        ]
        | None
    ) = None
    duration_seconds: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=43200,
                description="Wanted lifetime in seconds, 900 to 43200, or 0: as long as the role's session."
                " Default: 43200.",
            ),
        ]
        | None
    ) = None
    repositories: (
        Annotated[tuple[Repository, ...], Meta(max_length=10, description="Repositories whose endpoints are wanted.")]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="durationSeconds must be 0, or 900 to 43200",
            cel=f"!has(self.durationSeconds) || self.durationSeconds == 0 || "
            f"self.durationSeconds >= {_LEAST_TOKEN_SECONDS}",
            is_met_by=lambda it: not it.duration_seconds or it.duration_seconds >= _LEAST_TOKEN_SECONDS,
        ),
    )
