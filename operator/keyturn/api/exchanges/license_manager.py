"""AWS License Manager."""

from datetime import timedelta
from typing import Annotated, ClassVar

from msgspec import Meta

from keyturn.api.base import ApiStruct, Kind, matching
from keyturn.api.exchanges.base import AwsExchangeSpec
from keyturn.api.times import duration, duration_text

# From botocore's model of CreateToken, for any partition. RE2 limits repetition to 1000, so the limit of 1024 for the
# last part is left out.
_ARN = (
    r"^arn:[A-Za-z0-9-]+:[A-Za-z0-9][A-Za-z0-9_/.-]{0,62}:[A-Za-z0-9_/.-]{0,63}"
    r":[A-Za-z0-9_/.-]{0,63}:[A-Za-z0-9][A-Za-z0-9:_/+=,@.-]*\Z"
)


class LicenseManagerGetAccessTokenSpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """Exchanges a License Manager refresh token for an access token, valid for one hour (GetAccessToken)."""

    PRODUCES: ClassVar[tuple[Kind, ...]] = ("token",)

    token_properties: (
        Annotated[
            tuple[str, ...],
            Meta(max_length=3, description="Values that the refresh token's properties must contain."),
        ]
        | None
    ) = None


class RevokeSuperseded(ApiStruct, frozen=True):
    """Deletes superseded refresh tokens (DeleteToken) at the first renewal after their grace period."""

    grace_period: Annotated[
        str,
        duration_text("How long a superseded token stays valid, such as 168h."),
    ]

    @property
    def grace_time(self) -> timedelta:
        """`gracePeriod` as a timedelta."""
        return duration(self.grace_period)


class LicenseManagerCreateTokenSpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """Exchanges credentials for a long-lived refresh token of a license (License Manager CreateToken)."""

    REQUIRES: ClassVar[tuple[Kind, ...]] = ("credentials",)
    PRODUCES: ClassVar[tuple[Kind, ...]] = ("token",)

    license_arn: Annotated[
        str,
        matching(
            _ARN,
            "an ARN, such as arn:aws:license-manager::111122223333:license:l-0123456789abcdef0123456789abcdef",
            max_length=2048,
            description="ARN of the license, such as"
            " arn:aws:license-manager::111122223333:license:l-0123456789abcdef0123456789abcdef. It becomes the"
            " token's `aud` claim.",
        ),
    ]
    role_arns: (
        Annotated[
            tuple[
                Annotated[
                    str, matching(_ARN, "an ARN, such as arn:aws:iam::111122223333:role/billing", max_length=2048)
                ],
                ...,
            ],
            Meta(
                max_length=32,
                description="ARNs of the IAM roles to embed in the token, such as"
                " arn:aws:iam::111122223333:role/billing.",
            ),
        ]
        | None
    ) = None
    expiration_in_days: (
        # AWS documents no maximum; 20 years is the longest lifetime that an issuance record stores.
        Annotated[int, Meta(ge=1, le=7300, description="Lifetime of the token in days. Default: 365.")] | None
    ) = None
    token_properties: (
        Annotated[
            tuple[Annotated[str, Meta(min_length=1, max_length=1024)], ...],
            Meta(max_length=3, description="Values to embed in the token, as its `amr` claim."),
        ]
        | None
    ) = None
    revoke_superseded: (
        Annotated[
            RevokeSuperseded,
            Meta(
                description="Whether and when to delete the tokens that this TokenRequest created earlier. Default:"
                " they stay valid until they"
                " expire."
            ),
        ]
        | None
    ) = None
