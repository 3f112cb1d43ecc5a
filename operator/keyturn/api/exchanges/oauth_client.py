"""How an OAuth client authenticates: with a secret, an assertion that it signs, or a token from another issuer."""

import base64
from typing import Annotated, ClassVar, Literal
from urllib.parse import quote_plus

from msgspec import Meta

from keyturn.api.base import ApiStruct, Rule, exactly_one_of, matching
from keyturn.api.exchanges.base import CLIENT_CREDENTIALS, JWT_BEARER, TOKEN_EXCHANGE
from keyturn.api.source import Audience, SecretKeyRef, ServiceAccountTokenSpec

Text = Annotated[str, matching(r"^[ -~]+\Z", "printable ASCII characters", min_length=1, max_length=1024)]
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # fmt: skip

# RFC 7523 section 2.2.
CLIENT_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# Claims that Keyturn sets (RFC 7523 section 3).
RESERVED_CLAIMS = ["iss", "sub", "aud", "jti", "iat", "exp"]
# Header parameters (RFC 7515) that have their own API field, are not text, or change how the signature is computed.
RESERVED_HEADERS = ["alg", "kid", "x5c", "jwk", "crit", "b64", "enc", "zip"]
_MAX_MEMBER_NAME_LENGTH = 128
# Of an integer that every JSON parser reads exactly (RFC 8259 section 6).
_MAX_INTEGER = 2**53 - 1


class ClientAssertionSpec(ApiStruct, frozen=True):
    """Contents of the assertion that is signed with clientKeyFrom, in addition to the claims of RFC 7523."""

    audience: (
        Annotated[
            Text, Meta(description="`aud` claim, for example the issuer's identifier. Default: the value of tokenUrl.")
        ]
        | None
    ) = None
    claims: (
        Annotated[
            dict[str, Text],
            Meta(max_length=16, description="Additional claims, such as `tenant: shop`. Values must not be secret."),
        ]
        | None
    ) = None
    integer_claims: (
        Annotated[
            dict[str, Annotated[int, Meta(ge=0, le=_MAX_INTEGER)]],
            Meta(max_length=16, description="Additional claims that are integers, such as `token_exp: 2592000`."),
        ]
        | None
    ) = None
    time_claims: (
        Annotated[
            tuple[Literal["nbf"], ...],
            Meta(
                min_length=1,
                max_length=1,
                description="Additional claims with the time of the request, in seconds since 1970: nbf (RFC 7519"
                " section 4.1.5).",
            ),
        ]
        | None
    ) = None
    headers: (
        Annotated[
            dict[str, Text],
            Meta(
                max_length=16,
                description="Additional header fields, such as `typ: client-authentication+jwt` or `jku`. Default:"
                " `typ: JWT`.",
            ),
        ]
        | None
    ) = None
    certificate_headers: (
        Annotated[
            tuple[Literal["x5t", "x5t#S256", "x5c"], ...],
            Meta(
                min_length=1,
                max_length=3,
                description="Header fields to derive from the certificate of the key (RFC 7515 section 4.1): its SHA-1"
                " thumbprint (x5t), its SHA-256 thumbprint (x5t#S256), or the certificate with its chain (x5c). The"
                " certificate is in the same value as the key, or in clientCertificateFrom.",
            ),
        ]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message=f"claims and integerClaims must not contain {', '.join(RESERVED_CLAIMS)}, or those in timeClaims:"
            " Keyturn sets them; set audience to change aud",
            cel=" && ".join(
                f"""
                (!has(self.{field}) || !self.{field}.exists(k, k in {RESERVED_CLAIMS} ||
                    (has(self.timeClaims) && k in self.timeClaims)))
                """
                for field in ("claims", "integerClaims")
            ),
            is_met_by=lambda spec: {*(spec.claims or {}), *(spec.integer_claims or {})}.isdisjoint(
                (*RESERVED_CLAIMS, *(spec.time_claims or ()))
            ),
        ),
        Rule(
            message="a claim must not be in both claims and integerClaims",
            cel="""
                !has(self.claims) || !has(self.integerClaims) || !self.claims.exists(k, k in self.integerClaims)
            """,
            is_met_by=lambda spec: (spec.claims or {}).keys().isdisjoint(spec.integer_claims or {}),
        ),
        Rule(
            message=f"headers must not contain {', '.join(RESERVED_HEADERS)}, or those in certificateHeaders; set"
            " algorithm, keyId or certificateHeaders instead",
            cel=f"""
                !has(self.headers) || !self.headers.exists(k, k in {RESERVED_HEADERS} ||
                    (has(self.certificateHeaders) && k in self.certificateHeaders))
            """,
            is_met_by=lambda spec: (
                not any(
                    name in RESERVED_HEADERS or name in (spec.certificate_headers or ()) for name in spec.headers or {}
                )
            ),
        ),
        Rule(
            message=f"names of claims and headers must have 1 to {_MAX_MEMBER_NAME_LENGTH} characters",
            cel=" && ".join(
                f"(!has(self.{field}) || self.{field}.all(k, 0 < k.size() && k.size() <= {_MAX_MEMBER_NAME_LENGTH}))"
                for field in ("claims", "integerClaims", "headers")
            ),
            is_met_by=lambda spec: all(
                0 < len(name) <= _MAX_MEMBER_NAME_LENGTH
                for name in (*(spec.claims or {}), *(spec.integer_claims or {}), *(spec.headers or {}))
            ),
        ),
    )


class ClientServiceAccountSpec(ServiceAccountTokenSpec, frozen=True):
    """A token of a ServiceAccount in the namespace of the TokenRequest. Each request to the issuer uses a new one."""

    audiences: Annotated[
        tuple[Audience, ...],
        Meta(
            min_length=1,
            max_length=4,
            description="Audiences that the issuer accepts, such as api://AzureADTokenExchange. The operator's"
            " settings must allow them.",
        ),
    ]
    expiration_seconds: (
        Annotated[int, Meta(ge=600, le=86400, description="Lifetime of the token in seconds. Default: 600.")] | None
    ) = None


class ClientAssertionSource(ApiStruct, frozen=True):
    """A JWT that another issuer has signed. Set exactly one field."""

    service_account: ClientServiceAccountSpec | None = None
    secret_key_ref: (
        Annotated[SecretKeyRef, Meta(description="Secret key to read the JWT from, at each renewal.")] | None
    ) = None
    pipeline: (
        Annotated[
            Literal["accessToken", "idToken"],
            Meta(
                description="The newest token that an earlier exchange of this renewal returned: accessToken or"
                " idToken. The source token is never used."
            ),
        ]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (exactly_one_of("serviceAccount", "secretKeyRef", "pipeline"),)

    @property
    def client(self) -> str:
        """The name of a client without a client ID. It is part of a stored identifier, so its form must not change."""
        if self.service_account:
            return f"ServiceAccount {self.service_account.name}"
        ref = self.secret_key_ref
        return f"Secret {ref.name}/{ref.key}" if ref else f"pipeline {self.pipeline}"


_CREDENTIALS = ("clientSecretFrom", "clientKeyFrom", "clientAssertionFrom")
_HAS_ANY_CREDENTIAL = " || ".join(f"has(self.{name})" for name in _CREDENTIALS)

CLIENT_RULES = (
    Rule(
        message="clientId is required, except with clientAssertionFrom, and for token-exchange and jwt-bearer without"
        " client authentication",
        cel=f"""
            has(self.clientId) || has(self.clientAssertionFrom) ||
            (self.grantType in ['{TOKEN_EXCHANGE}', '{JWT_BEARER}'] &&
             !has(self.clientSecretFrom) && !has(self.clientKeyFrom))
        """,
        is_met_by=lambda spec: (
            spec.client_id is not None
            or spec.client_assertion_from is not None
            or (
                spec.grant_type in (TOKEN_EXCHANGE, JWT_BEARER)
                and not (spec.client_secret_from or spec.client_key_from)
            )
        ),
    ),
    Rule(
        message="clientSecretFrom, clientKeyFrom and clientAssertionFrom are mutually exclusive",
        cel=f"[{', '.join(f'has(self.{name})' for name in _CREDENTIALS)}].filter(x, x).size() <= 1",
        is_met_by=lambda spec: len(spec.client_credentials) <= 1,
    ),
    Rule(
        message="clientAuthentication client_secret_basic and client_secret_post require clientSecretFrom,"
        " private_key_jwt requires clientKeyFrom or clientAssertionFrom, and none excludes all three",
        cel=f"""
            !has(self.clientAuthentication) ||
            (self.clientAuthentication in ['client_secret_basic', 'client_secret_post'] ? has(self.clientSecretFrom) :
             self.clientAuthentication == 'private_key_jwt'
                ? has(self.clientKeyFrom) || has(self.clientAssertionFrom) :
             !({_HAS_ANY_CREDENTIAL}))
        """,
        is_met_by=lambda spec: (
            spec.client_authentication is None
            or {
                "client_secret_basic": spec.client_secret_from is not None,
                "client_secret_post": spec.client_secret_from is not None,
                "private_key_jwt": bool(spec.client_key_from or spec.client_assertion_from),
                "none": not spec.client_credentials,
            }[spec.client_authentication]
        ),
    ),
    Rule(
        message=f"grantType client_credentials requires one of {', '.join(_CREDENTIALS)}",
        cel=f"self.grantType != '{CLIENT_CREDENTIALS}' || {_HAS_ANY_CREDENTIAL}",
        is_met_by=lambda spec: spec.grant_type != CLIENT_CREDENTIALS or bool(spec.client_credentials),
    ),
    Rule(
        message="keyId, algorithm, clientAssertion and clientCertificateFrom require clientKeyFrom",
        cel="""
            has(self.clientKeyFrom) ||
            !(has(self.keyId) || has(self.algorithm) || has(self.clientAssertion) || has(self.clientCertificateFrom))
        """,
        is_met_by=lambda spec: (
            bool(spec.client_key_from)
            or not (spec.key_id or spec.algorithm or spec.client_assertion or spec.client_certificate_from)
        ),
    ),
    Rule(
        message="clientCertificateFrom requires clientAssertion.certificateHeaders",
        cel="""
            !has(self.clientCertificateFrom) ||
            (has(self.clientAssertion) && has(self.clientAssertion.certificateHeaders))
        """,
        is_met_by=lambda spec: (
            spec.client_certificate_from is None
            or bool(spec.client_assertion and spec.client_assertion.certificate_headers)
        ),
    ),
)


def basic_authorization(client_id: str, secret: str) -> str:
    """Return the Authorization header of client_secret_basic: form-encoded, then base64 (RFC 6749 section 2.3.1)."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
