"""AWS IAM Identity Center: its tokens, and the credentials of what its users are assigned to."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from keyturn.api.base import Kind, Rule
from keyturn.api.exchanges.base import AwsExchangeSpec, ReadFrom
from keyturn.api.exchanges.grant_types import (
    A_REFRESH_TOKEN,
    AN_ACCESS_TOKEN,
    ASKED_TO_REFRESH,
    AUTHORIZATION_CODE,
    JWT_BEARER,
    REFRESH_TOKEN,
    TOKEN_EXCHANGE,
)
from keyturn.api.source import SecretValue

# By grant: the fields that say something to it alone.
_OF_GRANT = {
    AUTHORIZATION_CODE: ("codeFrom", "redirectUri", "codeVerifierFrom"),
    JWT_BEARER: ("assertionFrom",),
    TOKEN_EXCHANGE: ("subjectTokenType", "requestedTokenType"),
}
_NO_TOKEN = f"{{0}}.grantType == '{AUTHORIZATION_CODE}' || has({{0}}.assertionFrom)"


def _has(it: msgspec.Struct, name: str) -> bool:
    fields = dict(zip(it.__struct_encode_fields__, it.__struct_fields__, strict=True))
    return getattr(it, fields[name]) is not None


def _only_for(grant: str) -> Rule:
    names = _OF_GRANT[grant]
    return Rule(
        message=f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} for grantType {grant}",
        cel=f"self.grantType == '{grant}' || !({' || '.join(f'has(self.{name})' for name in names)})",
        is_met_by=lambda it: it.grant_type == grant or not any(_has(it, name) for name in names),
    )


class IdentityCenterCreateTokenSpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """sso-oidc CreateTokenWithIAM: an access token of IAM Identity Center, as an application of its own."""

    REQUIRES: ClassVar[tuple[Kind, ...]] = ("credentials", "token")
    REQUIRES_IF: ClassVar[Mapping[Kind, str]] = {"token": f"!({_NO_TOKEN})"}
    PRODUCES: ClassVar[tuple[Kind, ...]] = ("token",)
    PRODUCES_ID_TOKEN: ClassVar[bool] = True
    CONSUMES: ClassVar[str] = f"{{0}}.grantType == '{REFRESH_TOKEN}'"
    CONSUMES_TOKEN: ClassVar[str] = (
        f"({{0}}.grantType == '{JWT_BEARER}' && !has({{0}}.assertionFrom)) || ({ASKED_TO_REFRESH})"
    )

    client_id: Annotated[
        str,
        Meta(
            min_length=20,
            max_length=2048,
            pattern=r"^arn:aws[-a-z0-9]*:sso::[0-9]{12}:application/[!-~]+\Z",
            description="ARN of the application.",
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
            description="authorization_code takes codeFrom once, and then the refresh token that it answers;"
            " refresh_token takes source.token; jwt-bearer a token of a trusted issuer; token-exchange an access"
            " token that Identity Center gave to another application."
        ),
    ]
    scope: (
        Annotated[
            tuple[Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[!#-\[\]-~]+\Z")], ...],
            Meta(min_length=1, max_length=64, description="Scopes to ask for. Default: those of the application."),
        ]
        | None
    ) = None
    code_from: Annotated[SecretValue, Meta(description="The authorization code; it works once.")] | None = None
    redirect_uri: (
        Annotated[
            str,
            Meta(min_length=1, max_length=2048, pattern=r"^[!-~]+\Z", description="Where the code was sent to."),
        ]
        | None
    ) = None
    code_verifier_from: (
        Annotated[SecretValue, Meta(description="The code verifier of PKCE (RFC 7636 section 4.1).")] | None
    ) = None
    assertion_from: (
        Annotated[
            SecretValue,
            Meta(description="The JWT of a trusted token issuer; it works once. Default: the newest token."),
        ]
        | None
    ) = None
    from_: ReadFrom | None = msgspec.field(default=None, name="from")
    subject_token_type: (
        Annotated[
            Literal["urn:ietf:params:oauth:token-type:access_token"],
            Meta(description=f"Default: {AN_ACCESS_TOKEN}."),
        ]
        | None
    ) = None
    requested_token_type: (
        Annotated[
            Literal["urn:ietf:params:oauth:token-type:access_token", "urn:ietf:params:oauth:token-type:refresh_token"],
            Meta(
                description="What Identity Center is to answer. Default: an access token. Where it is"
                " refresh_token, a source token in a Secret is shown once, and renewals use the refresh token"
                " that it gave; of the token of a ServiceAccount, or of an exchange before, none is kept."
            ),
        ]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="grantType authorization_code needs codeFrom and redirectUri",
            cel="self.grantType != 'authorization_code' || (has(self.codeFrom) && has(self.redirectUri))",
            is_met_by=lambda it: it.grant_type != AUTHORIZATION_CODE or bool(it.code_from and it.redirect_uri),
        ),
        *(_only_for(grant) for grant in _OF_GRANT),
        Rule(
            message="from says which token an assertion or a subject token is; this grant reads none",
            cel="!has(self.from) || (self.grantType in "
            f"['{JWT_BEARER}', '{TOKEN_EXCHANGE}'] && !has(self.assertionFrom))",
            is_met_by=lambda it: (
                it.from_ is None or (it.grant_type in (JWT_BEARER, TOKEN_EXCHANGE) and not it.assertion_from)
            ),
        ),
    )

    @property
    def needs(self) -> tuple[Kind, ...]:
        """Credentials, and a token where none comes with the code or the assertion."""
        no_token = self.grant_type == AUTHORIZATION_CODE or self.assertion_from
        return ("credentials",) if no_token else self.REQUIRES

    @property
    def consumes(self) -> bool:
        """Whether the answer may replace the source token."""
        return self.grant_type == REFRESH_TOKEN

    @property
    def party(self) -> str:
        """The application."""
        return self.client_id

    @property
    def consumes_token(self) -> bool:
        """Identity Center takes no assertion twice (`jti`); a refresh token that was asked for is to be used."""
        return self.requested_token_type == A_REFRESH_TOKEN or (
            self.grant_type == JWT_BEARER and not self.assertion_from
        )


class IdentityCenterGetRoleCredentialsSpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """sso GetRoleCredentials (unsigned): an access token for the credentials of a role that its user has."""

    IS_ROLE: ClassVar[bool] = True

    role_name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=64,
            pattern=r"^[A-Za-z0-9_+=,.@-]+\Z",
            description="Name of the permission set that the user is assigned to.",
        ),
    ]
    account_id: Annotated[str, Meta(pattern=r"^[0-9]{12}\Z", description="The account of that assignment.")]
