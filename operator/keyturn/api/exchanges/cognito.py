"""Amazon Cognito identity pools."""

import re
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from keyturn.api.base import Kind, Rule
from keyturn.api.exchanges.base import AwsExchangeSpec
from keyturn.api.exchanges.session_parameters import RoleArn

IdentityPoolId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=55,
        pattern=r"^[A-Za-z0-9_-]+:[0-9a-f-]+\Z",
        description="The pool, such as us-east-1:12345678-1234-1234-1234-123456789012.",
    ),
]
Logins = Annotated[
    dict[Annotated[str, Meta(max_length=128)], Literal["accessToken", "idToken"]],
    Meta(
        min_length=1,
        max_length=10,
        description="Login providers by the names that the pool knows them by, such as"
        " cognito-idp.us-east-1.amazonaws.com/us-east-1_abc, each with the token that is shown for it: accessToken"
        " (the newest, or the source's) or idToken (of an exchange before).",
    ),
]
_LOGINS_RULE = Rule(
    message="the name of a login provider has 1 to 128 printable characters, without spaces",
    cel="self.logins.all(name, name.matches('^[!-~]{1,128}$'))",
    is_met_by=lambda it: all(re.fullmatch(r"[!-~]{1,128}", name) for name in it.logins),
)


class CognitoExchangeSpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """An operation for an identity in a pool. The identity is asked for once (GetId) and kept."""

    identity_pool_id: IdentityPoolId
    account_id: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=15,
                pattern=r"^[0-9]+\Z",
                description="The account of the pool. Not needed for authenticated identities.",
            ),
        ]
        | None
    ) = None
    logins: Logins

    RULES: ClassVar[tuple[Rule, ...]] = (_LOGINS_RULE,)


class CognitoGetCredentialsSpec(CognitoExchangeSpec, frozen=True, kw_only=True):
    """cognito-identity GetId, once, and GetCredentialsForIdentity (the enhanced flow; unsigned)."""

    IS_ROLE: ClassVar[bool] = True

    custom_role_arn: (
        Annotated[RoleArn, Meta(description="Which of the roles in the token. Default: the pool's choice.")] | None
    ) = None


class CognitoGetOpenIdTokenSpec(CognitoExchangeSpec, frozen=True, kw_only=True):
    """cognito-identity GetId, once, and GetOpenIdToken (unsigned): a token of 10 minutes.

    assumeRoleWithWebIdentity after it is the basic flow: any role that trusts the pool, for up to 12 hours.
    """

    PRODUCES: ClassVar[tuple[Kind, ...]] = ("token",)
