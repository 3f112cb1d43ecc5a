"""OAuth 2.0 at any issuer."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from keyturn.api.base import Kind, Rule
from keyturn.api.exchanges.base import ExchangeSpec, ReadFrom
from keyturn.api.exchanges.grant_types import (
    A_REFRESH_TOKEN,
    ASKED_TO_REFRESH,
    CLIENT_CREDENTIALS,
    REFRESH_TOKEN,
)
from keyturn.api.exchanges.oauth_rules import RULES
from keyturn.api.source import BundleValue, SecretValue

_Scope = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[!#-\[\]-~]+\Z")]
_Audience = Annotated[str, Meta(min_length=1, max_length=1024, pattern=r"^[ -~]+\Z")]
_Resource = Annotated[str, Meta(min_length=1, max_length=2048, pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:[!-\"$-~]+\Z")]
_TokenType = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:[!-~]+\Z")]
_Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # fmt: skip


class OauthTokenSpec(ExchangeSpec, frozen=True, kw_only=True):
    """A token endpoint of OAuth 2.0 (RFC 6749), at any issuer: a token, or the client alone, for a token."""

    REQUIRES_IF: ClassVar[Mapping[Kind, str]] = {"token": "{0}.grantType != 'client_credentials'"}
    PRODUCES: ClassVar[tuple[Kind, ...]] = ("token",)
    PRODUCES_ID_TOKEN: ClassVar[bool] = True
    CONSUMES: ClassVar[str] = "{0}.grantType == 'refresh_token'"
    CONSUMES_TOKEN: ClassVar[str] = ASKED_TO_REFRESH
    RULES: ClassVar[tuple[Rule, ...]] = RULES

    token_url: Annotated[
        str,
        Meta(max_length=2048, pattern=r"^https://[^/?#@\s]+(/[^?#\s]*)?\Z", description="The token endpoint."),
    ]
    grant_type: Annotated[
        Literal[
            "refresh_token",
            "client_credentials",
            "urn:ietf:params:oauth:grant-type:token-exchange",
            "urn:ietf:params:oauth:grant-type:jwt-bearer",
        ],
        Meta(
            description="refresh_token (RFC 6749 section 6) uses source.token, client_credentials (section 4.4) no"
            " token, token-exchange (RFC 8693) and jwt-bearer (RFC 7523) the newest one."
        ),
    ]
    client_id: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=1024,
                pattern=r"^[ -~]+\Z",
                description="The client that asks. Only token-exchange and jwt-bearer may go without.",
            ),
        ]
        | None
    ) = None
    client_secret_from: Annotated[SecretValue, Meta(description="The client's secret.")] | None = None
    client_key_from: (
        Annotated[
            SecretValue,
            Meta(description="The client's private key (PEM; RSA up to 4096 bits), for private_key_jwt."),
        ]
        | None
    ) = None
    client_authentication: (
        Annotated[
            Literal["basic", "post", "private_key_jwt", "none"],
            Meta(
                description="How the client shows who it is (RFC 6749 section 2.3.1, RFC 7523 section 2.2)."
                " Default: basic with clientSecretFrom, private_key_jwt with clientKeyFrom, else none."
            ),
        ]
        | None
    ) = None
    key_id: (
        Annotated[
            str,
            Meta(min_length=1, max_length=1024, pattern=r"^[ -~]+\Z", description="`kid` of the client's key."),
        ]
        | None
    ) = None
    algorithm: Annotated[_Algorithm, Meta(description="What the client's key signs with. Default: RS256.")] | None = (
        None
    )
    scope: (
        Annotated[tuple[_Scope, ...], Meta(max_length=64, description="Scopes to ask for. Default: the issuer's.")]
        | None
    ) = None
    audience: (
        Annotated[
            tuple[_Audience, ...],
            Meta(min_length=1, max_length=16, description="Whom the token is for (RFC 8693 section 2.1)."),
        ]
        | None
    ) = None
    resource: (
        Annotated[
            tuple[_Resource, ...],
            Meta(min_length=1, max_length=16, description="URIs that the token is for (RFC 8707 section 2)."),
        ]
        | None
    ) = None
    from_: ReadFrom | None = msgspec.field(default=None, name="from")
    subject_token_type: (
        Annotated[_TokenType, Meta(description="What the token is that goes on (RFC 8693 section 3).")] | None
    ) = None
    requested_token_type: (
        Annotated[
            _TokenType,
            Meta(
                description="What is to be answered. Where it is urn:ietf:params:oauth:token-type:refresh_token, a"
                " source token in a Secret is shown once, and renewals use the refresh token that it gave; of the"
                " token of a ServiceAccount, or of an exchange before, none is kept."
            ),
        ]
        | None
    ) = None
    actor_token_from: Annotated[SecretValue, Meta(description="The token of who acts for the subject.")] | None = None
    actor_token_type: Annotated[_TokenType, Meta(description="What the actor's token is.")] | None = None
    extra_parameters: (
        Annotated[
            dict[
                Annotated[str, Meta(max_length=128)],
                Annotated[str, Meta(min_length=1, max_length=1024, pattern=r"^[ -~]+\Z")],
            ],
            Meta(max_length=16, description="Parameters of the issuer's own, none of them secret."),
        ]
        | None
    ) = None
    ca_bundle_from: (
        Annotated[BundleValue, Meta(description="Certificates (PEM) that are trusted instead of the usual ones.")]
        | None
    ) = None

    @property
    def needs(self) -> tuple[Kind, ...]:
        """A token, but for the grant that has none."""
        return () if self.grant_type == CLIENT_CREDENTIALS else self.REQUIRES

    @property
    def consumes(self) -> bool:
        """Whether the answer may replace the source token: any issuer may rotate a refresh token."""
        return self.grant_type == REFRESH_TOKEN

    @property
    def consumes_token(self) -> bool:
        """A refresh token that was asked for is to be used: what it was given for may end at any time."""
        return self.requested_token_type == A_REFRESH_TOKEN

    @property
    def party(self) -> str:
        """The issuer, and whom it gives tokens to."""
        return f"{self.token_url} {self.client_id or ''}"

    @property
    def authentication(self) -> str:
        """How the client shows who it is."""
        usual = "basic" if self.client_secret_from else "private_key_jwt" if self.client_key_from else "none"
        return self.client_authentication or usual
