"""OAuth 2.0: requests to the token endpoint of any issuer."""

import re
from datetime import timedelta
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from keyturn.api.base import Kind, Rule, matching
from keyturn.api.exchanges.base import (
    CLIENT_CREDENTIALS,
    JWT_BEARER,
    REFRESH_TOKEN,
    REFRESH_TOKEN_TYPE,
    TOKEN_EXCHANGE,
    ExchangeSpec,
    Scope,
    TokenToRead,
)
from keyturn.api.exchanges.oauth_client import (
    CLIENT_RULES,
    Algorithm,
    ClientAssertionSource,
    ClientAssertionSpec,
    Text,
)
from keyturn.api.source import BundleValue, SecretValue
from keyturn.api.times import duration, duration_text, is_duration

_Resource = Annotated[
    str,
    matching(
        r"^[A-Za-z][A-Za-z0-9+.-]*:[!-\"$-~]+\Z",
        "an absolute URI without a fragment, such as https://api.example.com",
        min_length=1,
        max_length=2048,
    ),
]
_TokenType = Annotated[
    str,
    matching(
        r"^[A-Za-z][A-Za-z0-9+.-]*:[!-~]+\Z",
        "an absolute URI, such as urn:ietf:params:oauth:token-type:jwt",
        min_length=1,
        max_length=256,
    ),
]

# Parameters that have a field of their own, or would need one: an extra parameter could override that field.
PROTOCOL_PARAMETERS = [
    "grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "scope", "audience",
    "resource", "refresh_token", "assertion", "subject_token", "subject_token_type", "requested_token_type",
    "actor_token", "actor_token_type", "code", "code_verifier", "redirect_uri", "username", "device_code",
]  # fmt: skip
PARAMETER = r"[A-Za-z][A-Za-z0-9_.-]*"
SECRET_PARAMETER = r"([Ss]ecret|[Pp]assword|[Pp]assphrase|[Aa]pi[-_]?[Kk]ey|[Pp]rivate[-_]?[Kk]ey)"  # noqa: S105

_RULES = (
    *CLIENT_RULES,
    Rule(
        message="grantType token-exchange requires subjectTokenType",
        cel=f"self.grantType != '{TOKEN_EXCHANGE}' || has(self.subjectTokenType)",
        is_met_by=lambda spec: spec.grant_type != TOKEN_EXCHANGE or spec.subject_token_type is not None,
    ),
    Rule(
        message="subjectTokenType, requestedTokenType, actorTokenFrom and actorTokenType require grantType"
        " token-exchange",
        cel=f"""
            self.grantType == '{TOKEN_EXCHANGE}' ||
            !(has(self.subjectTokenType) || has(self.requestedTokenType) ||
              has(self.actorTokenFrom) || has(self.actorTokenType))
        """,
        is_met_by=lambda spec: (
            spec.grant_type == TOKEN_EXCHANGE
            or not (
                spec.subject_token_type or spec.requested_token_type or spec.actor_token_from or spec.actor_token_type
            )
        ),
    ),
    Rule(
        message="actorTokenFrom and actorTokenType must be set together",
        cel="has(self.actorTokenFrom) == has(self.actorTokenType)",
        is_met_by=lambda spec: (spec.actor_token_from is None) == (spec.actor_token_type is None),
    ),
    Rule(
        message="from requires grantType token-exchange or jwt-bearer",
        cel=f"!has(self.from) || self.grantType in ['{TOKEN_EXCHANGE}', '{JWT_BEARER}']",
        is_met_by=lambda spec: spec.from_ is None or spec.grant_type in (TOKEN_EXCHANGE, JWT_BEARER),
    ),
    Rule(
        message="names of extraParameters must not be OAuth parameters or contain words such as secret and password,"
        " and may contain only letters, digits, '.', '-' and '_'",
        cel=f"""
            !has(self.extraParameters) || self.extraParameters.all(k,
                !(k in {PROTOCOL_PARAMETERS}) && k.matches(r'^{PARAMETER}$') && !k.matches(r'{SECRET_PARAMETER}'))
        """,
        is_met_by=lambda spec: all(
            name not in PROTOCOL_PARAMETERS and re.fullmatch(PARAMETER, name) and not re.search(SECRET_PARAMETER, name)
            for name in spec.extra_parameters or {}
        ),
    ),
    Rule(
        message="assumedLifetime must be from 1m to 8784h",
        cel=f"""
            !has(self.assumedLifetime) || !({is_duration("self.assumedLifetime")}) ||
            (duration(self.assumedLifetime) >= duration('1m') && duration(self.assumedLifetime) <= duration('8784h'))
        """,
        is_met_by=lambda spec: spec.assumed is None or timedelta(minutes=1) <= spec.assumed <= timedelta(hours=8784),
    ),
)


class OauthTokenSpec(ExchangeSpec, frozen=True, kw_only=True):
    """Requests a token from the token endpoint of an OAuth 2.0 issuer (RFC 6749)."""

    REQUIRES: ClassVar[tuple[Kind, ...]] = ()
    PRODUCES: ClassVar[tuple[Kind, ...]] = ("token",)
    PRODUCES_ID_TOKEN: ClassVar[bool] = True
    CEL_IS_REFRESH_GRANT: ClassVar[str] = f"self.grantType == '{REFRESH_TOKEN}'"
    CEL_IS_TOKEN_SINGLE_USE: ClassVar[str] = (
        f"has(self.requestedTokenType) && self.requestedTokenType == '{REFRESH_TOKEN_TYPE}'"
    )
    CEL_REQUIRES_TOKEN: ClassVar[str] = f"self.grantType != '{CLIENT_CREDENTIALS}'"
    RULES: ClassVar[tuple[Rule, ...]] = _RULES

    token_url: Annotated[
        str,
        matching(
            # A query is part of a token endpoint's URL (RFC 6749 section 3.2). A host name has at most 253 characters;
            # encoding one with 1,900 Chinese characters would take 0.3 s.
            r"^https://[^/?#@\s]{1,259}(/[^?#\s]*)?(\?[^#\s]*)?\Z",
            "an https URL without a user name and a fragment, such as https://issuer.example.com/oauth2/token",
            max_length=2048,
            description="URL of the token endpoint, such as https://issuer.example.com/oauth2/token.",
        ),
    ]
    grant_type: Annotated[
        Literal[
            "refresh_token",
            "client_credentials",
            "urn:ietf:params:oauth:grant-type:token-exchange",
            "urn:ietf:params:oauth:grant-type:jwt-bearer",
        ],
        Meta(
            description="refresh_token (RFC 6749 section 6) uses source.token. client_credentials (RFC 6749 section"
            " 4.4) uses no token. token-exchange (RFC 8693) and jwt-bearer (RFC 7523) send the token selected"
            " by `from`."
        ),
    ]
    client_id: (
        Annotated[
            Text,
            Meta(
                description="Client ID. Optional with clientAssertionFrom, and for token-exchange and jwt-bearer"
                " without client authentication."
            ),
        ]
        | None
    ) = None
    client_secret_from: Annotated[SecretValue, Meta(description="Client secret.")] | None = None
    client_key_from: (
        Annotated[
            SecretValue,
            Meta(
                description="Private key of the client for private_key_jwt: PEM, a JWK or a JWK set (RSA up to 4096"
                " bits). PEM may also contain the certificate."
            ),
        ]
        | None
    ) = None
    client_certificate_from: (
        Annotated[
            SecretValue,
            Meta(
                description="Certificate of the key (PEM, with or without its chain) for"
                " clientAssertion.certificateHeaders. Default: the certificate in the value of clientKeyFrom."
            ),
        ]
        | None
    ) = None
    client_assertion_from: (
        Annotated[
            ClientAssertionSource,
            Meta(
                description="A JWT from another issuer, with which the client authenticates instead of a secret"
                " (RFC 7521 section 4.2)."
            ),
        ]
        | None
    ) = None
    client_authentication: (
        Annotated[
            Literal["client_secret_basic", "client_secret_post", "private_key_jwt", "none"],
            Meta(
                description="How the client authenticates: client_secret_basic (HTTP Basic, RFC 6749 section 2.3.1),"
                " client_secret_post (in the request body), private_key_jwt (RFC 7523 section 2.2) or none (a public"
                " client). Default: client_secret_basic with clientSecretFrom, private_key_jwt with clientKeyFrom or"
                " clientAssertionFrom, otherwise none."
            ),
        ]
        | None
    ) = None
    key_id: (
        Annotated[
            Text,
            Meta(
                description="ID of the key: the `kid` header. It selects a key of a JWK set. Default: the `kid` of"
                " the JWK."
            ),
        ]
        | None
    ) = None
    algorithm: (
        Annotated[
            Algorithm,
            Meta(
                description="Signature algorithm. Default: the `alg` of the JWK, otherwise RS256 for an RSA key, ES256,"
                " ES384 or ES512 for an EC key (by its curve), and EdDSA for an Ed25519 or Ed448 key."
            ),
        ]
        | None
    ) = None
    client_assertion: ClientAssertionSpec | None = None
    scope: (
        Annotated[
            tuple[Scope, ...],
            Meta(
                max_length=64,
                description="Scopes to request, such as openid and offline_access. Default: the issuer decides.",
            ),
        ]
        | None
    ) = None
    audience: (
        Annotated[
            tuple[Text, ...],
            Meta(
                min_length=1,
                max_length=16,
                description="Audiences to request, such as https://api.example.com (RFC 8693 section 2.1).",
            ),
        ]
        | None
    ) = None
    resource: (
        Annotated[
            tuple[_Resource, ...],
            Meta(
                min_length=1,
                max_length=16,
                description="URIs of the resources to access, such as https://api.example.com (RFC 8707 section 2).",
            ),
        ]
        | None
    ) = None
    from_: TokenToRead | None = msgspec.field(default=None, name="from")
    subject_token_type: (
        Annotated[
            _TokenType,
            Meta(
                description="Type of the token to exchange, such as urn:ietf:params:oauth:token-type:access_token"
                " (RFC 8693 section 3)."
            ),
        ]
        | None
    ) = None
    requested_token_type: (
        Annotated[
            _TokenType,
            Meta(
                description="Type of the token to request. With urn:ietf:params:oauth:token-type:refresh_token, a"
                " source token from a Secret is sent only once, and later renewals use the refresh token from the"
                " response; a ServiceAccount token or a token from an earlier exchange is sent at each renewal."
                " Default: the issuer decides."
            ),
        ]
        | None
    ) = None
    actor_token_from: (
        Annotated[SecretValue, Meta(description="Token of the party that acts on behalf of the subject.")] | None
    ) = None
    actor_token_type: (
        Annotated[
            _TokenType,
            Meta(description="Type of the actor token, such as urn:ietf:params:oauth:token-type:access_token."),
        ]
        | None
    ) = None
    extra_parameters: (
        Annotated[
            dict[Annotated[str, Meta(max_length=128)], Text],
            Meta(
                max_length=16,
                description="Parameters that only this issuer has, such as `requested_token_use: on_behalf_of`."
                " Values must not be secret.",
            ),
        ]
        | None
    ) = None
    ca_bundle_from: (
        Annotated[
            BundleValue,
            Meta(
                description="CA certificates (PEM) to trust instead of the system's. At most 300 certificates and"
                " 512 KiB. Certificates with explicit elliptic curve parameters are refused."
            ),
        ]
        | None
    ) = None
    assumed_lifetime: (
        Annotated[
            str,
            duration_text(
                "Lifetime of the access token, such as 30m, for an issuer that states it neither in its"
                " response (expires_in, expires_at, expires_on) nor in the `exp` claim of a JWT. Ignored if the issuer"
                " states it. From 1m to 8784h. Default: none; a token without a stated lifetime can be used by the next"
                " exchange but not written to the Secret, because Keyturn could not renew it in time."
            ),
        ]
        | None
    ) = None

    @property
    def assumed(self) -> timedelta | None:
        """`assumedLifetime` as a timedelta."""
        return None if self.assumed_lifetime is None else duration(self.assumed_lifetime)

    @property
    def required_kinds(self) -> tuple[Kind, ...]:
        """A token, unless the client acts on its own behalf."""
        return () if self.grant_type == CLIENT_CREDENTIALS else ("token",)

    @property
    def is_refresh_grant(self) -> bool:
        """Whether a refresh token is sent, which any issuer may rotate."""
        return self.grant_type == REFRESH_TOKEN

    @property
    def is_token_single_use(self) -> bool:
        """Whether a refresh token is requested, which then replaces the source token: that one may expire."""
        return self.requested_token_type == REFRESH_TOKEN_TYPE

    @property
    def recipient(self) -> str:
        """The issuer and the client."""
        source = self.client_assertion_from
        return f"{self.token_url} {self.client_id or (source.client if source else '')}"

    @property
    def client_credentials(self) -> tuple[SecretValue | ClientAssertionSource, ...]:
        """The credentials that the client authenticates with. The rules allow at most one."""
        credentials = (self.client_secret_from, self.client_key_from, self.client_assertion_from)
        return tuple(credential for credential in credentials if credential)

    @property
    def authentication(self) -> str:
        """The client authentication, with the default applied."""
        if self.client_authentication:
            return self.client_authentication
        if self.client_secret_from:
            return "client_secret_basic"
        return "private_key_jwt" if self.client_credentials else "none"
