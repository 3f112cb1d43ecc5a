"""AWS License Manager."""

from datetime import timedelta
from typing import Annotated, ClassVar

from msgspec import Meta

from keyturn.api.base import ApiStruct, Kind
from keyturn.api.exchanges.base import AwsExchangeSpec
from keyturn.api.times import DURATION, duration

# The operation's own page; the model has no more than a length. RE2 counts no further than 1000: the last part has
# 1024 characters there.
_ARN = (
    r"^arn:aws(-(cn|us-gov|iso-b|iso-c|iso-d))?:[A-Za-z0-9][A-Za-z0-9_/.-]{0,62}:[A-Za-z0-9_/.-]{0,63}"
    r":[A-Za-z0-9_/.-]{0,63}:[A-Za-z0-9][A-Za-z0-9:_/+=,@.-]*\Z"
)
_TokenProperty = Annotated[str, Meta(min_length=1, max_length=1024)]


class LicenseManagerGetAccessTokenSpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """license-manager GetAccessToken: a refresh token for an access token that lives one hour."""

    PRODUCES: ClassVar[tuple[Kind, ...]] = ("token",)

    token_properties: (
        Annotated[
            tuple[str, ...],
            Meta(max_length=3, description="Values that the token's own properties must hold."),
        ]
        | None
    ) = None


class RevokeSuperseded(ApiStruct, frozen=True):
    """What becomes of the tokens that were issued before: DeleteToken, at a renewal, once their time is over."""

    after: Annotated[
        str,
        Meta(
            min_length=2,
            max_length=20,
            pattern=DURATION,
            description="How long one is left in use beside the next, such as 168h.",
        ),
    ]

    @property
    def time(self) -> timedelta:
        """`after` as a duration."""
        return duration(self.after)


class LicenseManagerCreateTokenSpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """license-manager CreateToken: AWS credentials for a long-lived refresh token of a license."""

    REQUIRES: ClassVar[tuple[Kind, ...]] = ("credentials",)
    PRODUCES: ClassVar[tuple[Kind, ...]] = ("token",)

    license_arn: Annotated[
        str, Meta(max_length=2048, pattern=_ARN, description="ARN of the license: `aud` of the token.")
    ]
    role_arns: (
        Annotated[
            tuple[Annotated[str, Meta(max_length=2048, pattern=_ARN)], ...],
            Meta(max_length=32, description="ARNs of roles to name in the token."),
        ]
        | None
    ) = None
    expiration_in_days: (
        # No page has a limit: what lives longer than 20 years, marks do not count.
        Annotated[int, Meta(ge=1, le=7300, description="Lifetime in days. Default: 365.")] | None
    ) = None
    token_properties: (
        Annotated[
            tuple[_TokenProperty, ...],
            Meta(max_length=3, description="Values to put in the token: its `amr`."),
        ]
        | None
    ) = None
    revoke_superseded: (
        Annotated[
            RevokeSuperseded,
            Meta(description="Delete the tokens that this TokenRequest issued before. Default: they expire."),
        ]
        | None
    ) = None
