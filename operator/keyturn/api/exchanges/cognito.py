"""Amazon Cognito identity pools."""

import re
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from keyturn.api.base import Kind, Rule, matching
from keyturn.api.exchanges.base import AwsExchangeSpec, RoleArn

IdentityPoolId = Annotated[
    str,
    matching(
        r"^[A-Za-z0-9_-]+:[0-9a-f-]+\Z",
        "the ID of an identity pool, such as us-east-1:12345678-1234-1234-1234-123456789012",
        min_length=1,
        max_length=55,
        description="ID of the identity pool, such as us-east-1:12345678-1234-1234-1234-123456789012.",
    ),
]
Logins = Annotated[
    dict[Annotated[str, Meta(max_length=128)], Literal["accessToken", "idToken"]],
    Meta(
        min_length=1,
        max_length=10,
        description="The token to send for each login provider. Keys are the provider names of the identity pool, such"
        " as cognito-idp.us-east-1.amazonaws.com/us-east-1_abc. Values are accessToken (the newest access token, or the"
        " source token) or idToken (the ID token that an earlier exchange returned).",
    ),
]


class CognitoExchangeSpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """An operation for an identity of a pool. Keyturn caches the identity ID, which does not change."""

    identity_pool_id: IdentityPoolId
    account_id: (
        Annotated[
            str,
            matching(
                r"^[0-9]+\Z",
                "the ID of an AWS account: only digits",
                min_length=1,
                max_length=15,
                description="AWS account of the identity pool. Not required for authenticated identities.",
            ),
        ]
        | None
    ) = None
    logins: Logins

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="login provider names must have 1 to 128 printable ASCII characters without spaces",
            cel="self.logins.all(name, name.matches('^[!-~]{1,128}$'))",
            is_met_by=lambda spec: all(re.fullmatch(r"[!-~]{1,128}", name) for name in spec.logins),
        ),
    )


class CognitoGetCredentialsSpec(CognitoExchangeSpec, frozen=True, kw_only=True):
    """Exchanges tokens for credentials of an identity pool (GetId, GetCredentialsForIdentity).

    This is the enhanced flow. The calls are unsigned.
    """

    IS_ROLE: ClassVar[bool] = True

    custom_role_arn: (
        Annotated[
            RoleArn,
            Meta(
                description="ARN of the role to use if the token contains several roles. Default: the identity pool"
                " decides."
            ),
        ]
        | None
    ) = None


class CognitoGetOpenIdTokenSpec(CognitoExchangeSpec, frozen=True, kw_only=True):
    """Exchanges tokens for an OpenID token of an identity pool (GetId, GetOpenIdToken), valid for 10 minutes.

    Followed by assumeRoleWithWebIdentity, this is the basic flow: it supports any role that trusts the identity pool,
    for up to 12 hours. The calls are unsigned.
    """

    PRODUCES: ClassVar[tuple[Kind, ...]] = ("token",)
