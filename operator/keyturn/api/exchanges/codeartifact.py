"""AWS CodeArtifact."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from keyturn.api.base import ApiStruct, Kind, Rule, matching
from keyturn.api.exchanges.base import AwsExchangeSpec

DEFAULT_TOKEN_SECONDS = 43200
RepositoryName = Annotated[
    str,
    matching(
        r"^[A-Za-z0-9][A-Za-z0-9._-]{1,99}\Z",
        "letters, digits, '.', '_' and '-', with a letter or digit at the start",
        min_length=2,
        max_length=100,
    ),
]
PackageFormat = Literal["npm", "pypi", "maven", "nuget", "generic", "ruby", "swift", "cargo"]


class Repository(ApiStruct, frozen=True):
    """A repository, and the package formats to get endpoints for."""

    repository: Annotated[RepositoryName, Meta(description="Name of the repository, such as pypi-store.")]
    formats: Annotated[
        tuple[PackageFormat, ...],
        Meta(min_length=1, max_length=8, description="Package formats to request endpoints for, such as pypi and npm."),
    ]
    endpoint_type: (
        Annotated[
            Literal["dualstack", "ipv4"],
            Meta(description="Addresses of the endpoints: ipv4, or dualstack for IPv4 and IPv6. Default: ipv4."),
        ]
        | None
    ) = None


class CodeArtifactGetAuthorizationTokenSpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """Exchanges credentials for an authorization token of a CodeArtifact domain (GetAuthorizationToken).

    The caller needs codeartifact:GetAuthorizationToken and sts:GetServiceBearerToken. The token remains valid after the
    caller's session expires and cannot be revoked.
    """

    REQUIRES: ClassVar[tuple[Kind, ...]] = ("credentials",)
    PRODUCES: ClassVar[tuple[Kind, ...]] = ("token", "packageEndpoints")
    DEFAULT_SECONDS: ClassVar[int | None] = DEFAULT_TOKEN_SECONDS

    domain: Annotated[
        str,
        matching(
            r"^[a-z][a-z0-9-]{0,48}[a-z0-9]\Z",
            "lower-case letters, digits and '-', with a letter at the start and a letter or digit at the end",
            min_length=2,
            max_length=50,
            description="Name of the domain, such as acme.",
        ),
    ]
    domain_owner: (
        Annotated[
            str,
            matching(
                r"^[0-9]{12}\Z",
                "12 digits",
                min_length=12,
                max_length=12,
                description="AWS account that owns the domain, such as 111122223333 (in quotes). If set, endpoints"
                " are cached instead of requested at"
                " each renewal. Default: the caller's account.",
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
                description="Lifetime of the token in seconds: 900 to 43200, or 0 to expire with the role"
                " session. Default: 43200.",
            ),
        ]
        | None
    ) = None
    repositories: (
        Annotated[tuple[Repository, ...], Meta(max_length=10, description="Repositories to request endpoints for.")]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="durationSeconds must be 0, or 900 to 43200",
            cel="!has(self.durationSeconds) || self.durationSeconds == 0 || self.durationSeconds >= 900",
            is_met_by=lambda spec: not spec.duration_seconds or spec.duration_seconds >= 900,  # noqa: PLR2004
        ),
    )
