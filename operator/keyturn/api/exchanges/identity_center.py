"""AWS IAM Identity Center: its tokens, and credentials for permission sets."""

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from keyturn.api.base import Kind, Rule, matching
from keyturn.api.exchanges.base import (
    AUTHORIZATION_CODE,
    JWT_BEARER,
    REFRESH_TOKEN,
    REFRESH_TOKEN_TYPE,
    TOKEN_EXCHANGE,
    AwsExchangeSpec,
    Scope,
    TokenToRead,
)
from keyturn.api.source import SecretValue, SingleUseValue

_RULES = (
    Rule(
        message="grantType authorization_code requires codeFrom and redirectUri",
        cel=f"self.grantType != '{AUTHORIZATION_CODE}' || (has(self.codeFrom) && has(self.redirectUri))",
        is_met_by=lambda spec: spec.grant_type != AUTHORIZATION_CODE or bool(spec.code_from and spec.redirect_uri),
    ),
    Rule(
        message=f"codeFrom, redirectUri and codeVerifierFrom require grantType {AUTHORIZATION_CODE}",
        cel=f"""
            self.grantType == '{AUTHORIZATION_CODE}' ||
            !(has(self.codeFrom) || has(self.redirectUri) || has(self.codeVerifierFrom))
        """,
        is_met_by=lambda spec: (
            spec.grant_type == AUTHORIZATION_CODE
            or not (spec.code_from or spec.redirect_uri or spec.code_verifier_from)
        ),
    ),
    Rule(
        message=f"assertionFrom requires grantType {JWT_BEARER}",
        cel=f"self.grantType == '{JWT_BEARER}' || !has(self.assertionFrom)",
        is_met_by=lambda spec: spec.grant_type == JWT_BEARER or spec.assertion_from is None,
    ),
    Rule(
        message=f"subjectTokenType and requestedTokenType require grantType {TOKEN_EXCHANGE}",
        cel=f"""
            self.grantType == '{TOKEN_EXCHANGE}' ||
            !(has(self.subjectTokenType) || has(self.requestedTokenType))
        """,
        is_met_by=lambda spec: (
            spec.grant_type == TOKEN_EXCHANGE or not (spec.subject_token_type or spec.requested_token_type)
        ),
    ),
    Rule(
        message="from requires grantType jwt-bearer without assertionFrom, or token-exchange",
        cel=f"""
            !has(self.from) ||
            (self.grantType in ['{JWT_BEARER}', '{TOKEN_EXCHANGE}'] && !has(self.assertionFrom))
        """,
        is_met_by=lambda spec: (
            spec.from_ is None or (spec.grant_type in (JWT_BEARER, TOKEN_EXCHANGE) and not spec.assertion_from)
        ),
    ),
)


class IdentityCenterCreateTokenSpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """Requests an access token from IAM Identity Center for a customer managed application (CreateTokenWithIAM)."""

    REQUIRES: ClassVar[tuple[Kind, ...]] = ("credentials",)
    PRODUCES: ClassVar[tuple[Kind, ...]] = ("token",)
    PRODUCES_ID_TOKEN: ClassVar[bool] = True
    CEL_IS_REFRESH_GRANT: ClassVar[str] = f"self.grantType == '{REFRESH_TOKEN}'"
    CEL_IS_TOKEN_SINGLE_USE: ClassVar[str] = f"""
        (self.grantType == '{JWT_BEARER}' && !has(self.assertionFrom)) ||
        (has(self.requestedTokenType) && self.requestedTokenType == '{REFRESH_TOKEN_TYPE}')
    """
    CEL_REQUIRES_TOKEN: ClassVar[str] = f"self.grantType != '{AUTHORIZATION_CODE}' && !has(self.assertionFrom)"
    RULES: ClassVar[tuple[Rule, ...]] = _RULES

    client_id: Annotated[
        str,
        matching(
            r"^arn:[A-Za-z0-9-]+:sso:[a-z0-9-]*:[0-9]*:application/[!-~]+\Z",
            "the ARN of a customer managed application, such as"
            " arn:aws:sso::111122223333:application/ssoins-1111222233334444/apl-1111222233334444; the client ID of a"
            " public client, such as that of `aws sso login`, is not supported",
            max_length=2048,
            description="ARN of the application, such as arn:aws:sso::111122223333:application/ssoins-1111/apl-2222.",
        ),
    ]
    grant_type: Annotated[
        Literal[
            "authorization_code",
            "refresh_token",
            "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        ],
        Meta(
            description="authorization_code consumes codeFrom; later renewals use the refresh token from the response."
            " refresh_token sends source.token. jwt-bearer sends a token from a trusted token issuer."
            " token-exchange sends an access token that Identity Center issued to another application."
        ),
    ]
    scope: (
        Annotated[
            tuple[Scope, ...],
            Meta(
                min_length=1,
                max_length=64,
                description="Scopes to request, such as sso:account:access. Default: those of the application.",
            ),
        ]
        | None
    ) = None
    code_from: Annotated[SingleUseValue, Meta(description="The single-use authorization code.")] | None = None
    redirect_uri: (
        Annotated[
            str,
            matching(
                r"^[!-~]+\Z",
                "printable ASCII characters without spaces",
                min_length=1,
                max_length=2048,
                description="The redirect URI of the authorization request, such as http://127.0.0.1/callback.",
            ),
        ]
        | None
    ) = None
    code_verifier_from: (
        Annotated[SecretValue, Meta(description="The PKCE code verifier (RFC 7636 section 4.1).")] | None
    ) = None
    assertion_from: (
        Annotated[
            SingleUseValue,
            Meta(description="A single-use JWT from a trusted token issuer. Default: the token selected by `from`."),
        ]
        | None
    ) = None
    from_: TokenToRead | None = msgspec.field(default=None, name="from")
    subject_token_type: (
        Annotated[
            Literal["urn:ietf:params:oauth:token-type:access_token"],
            Meta(description="Type of the token to exchange. Default: urn:ietf:params:oauth:token-type:access_token."),
        ]
        | None
    ) = None
    requested_token_type: (
        Annotated[
            Literal["urn:ietf:params:oauth:token-type:access_token", "urn:ietf:params:oauth:token-type:refresh_token"],
            Meta(
                description="Type of the token to request. With refresh_token, a source token from a Secret is sent"
                " only once, and later renewals use the refresh token from the response; a ServiceAccount token or a"
                " token from an earlier exchange is sent at each renewal. Default: access_token."
            ),
        ]
        | None
    ) = None

    @property
    def required_kinds(self) -> tuple[Kind, ...]:
        """Credentials, and a token unless the exchange has a code or an assertion of its own."""
        has_own = self.grant_type == AUTHORIZATION_CODE or self.assertion_from
        return self.REQUIRES if has_own else (*self.REQUIRES, "token")

    @property
    def is_refresh_grant(self) -> bool:
        """Whether a refresh token is sent, which Identity Center may rotate."""
        return self.grant_type == REFRESH_TOKEN

    @property
    def is_token_single_use(self) -> bool:
        """Whether the token is an assertion, accepted only once (`jti`), or a requested refresh token replaces it."""
        return self.requested_token_type == REFRESH_TOKEN_TYPE or (
            self.grant_type == JWT_BEARER and not self.assertion_from
        )

    @property
    def recipient(self) -> str:
        """The application."""
        return self.client_id


class IdentityCenterGetRoleCredentialsSpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """Exchanges an access token of IAM Identity Center for credentials of a permission set (GetRoleCredentials).

    The call is unsigned.
    """

    IS_ROLE: ClassVar[bool] = True

    role_name: Annotated[
        str,
        matching(
            r"^[A-Za-z0-9_+=,.@-]+\Z",
            "letters, digits and _+=,.@-",
            min_length=1,
            max_length=64,
            description="Name of a permission set that is assigned to the user, such as ReadOnlyAccess.",
        ),
    ]
    account_id: Annotated[
        str,
        matching(
            r"^[0-9]{12}\Z",
            "12 digits",
            max_length=12,
            description="AWS account of the assignment, such as 111122223333. Write it in quotes: it must be text.",
        ),
    ]
