"""The rules between the fields of oauthToken."""

import re

from keyturn.api.base import Rule
from keyturn.api.exchanges.base import CLIENT_CREDENTIALS, JWT_BEARER, TOKEN_EXCHANGE

# Parameters that have, or would need, a field of their own: an extra parameter could override it.
PROTOCOL_PARAMETERS = [
    "grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "scope", "audience",
    "resource", "refresh_token", "assertion", "subject_token", "subject_token_type", "requested_token_type",
    "actor_token", "actor_token_type", "code", "code_verifier", "redirect_uri", "username", "device_code",
]  # fmt: skip
PARAMETER = r"[A-Za-z][A-Za-z0-9_.-]*"
SECRET_PARAMETER = r"([Ss]ecret|[Pp]assword|[Pp]assphrase|[Aa]pi[-_]?[Kk]ey|[Pp]rivate[-_]?[Kk]ey)"  # noqa: S105

RULES = (
    Rule(
        message="clientId is required, except for token-exchange and jwt-bearer without client authentication",
        cel=f"""
            has(self.clientId) ||
            (self.grantType in ['{TOKEN_EXCHANGE}', '{JWT_BEARER}'] &&
             !has(self.clientSecretFrom) && !has(self.clientKeyFrom))
        """,
        is_met_by=lambda spec: (
            spec.client_id is not None
            or (
                spec.grant_type in (TOKEN_EXCHANGE, JWT_BEARER)
                and not (spec.client_secret_from or spec.client_key_from)
            )
        ),
    ),
    Rule(
        message="clientSecretFrom and clientKeyFrom are mutually exclusive",
        cel="!has(self.clientSecretFrom) || !has(self.clientKeyFrom)",
        is_met_by=lambda spec: not (spec.client_secret_from and spec.client_key_from),
    ),
    Rule(
        message="clientAuthentication client_secret_basic and client_secret_post require clientSecretFrom,"
        " private_key_jwt requires clientKeyFrom, none allows neither",
        cel="""
            !has(self.clientAuthentication) ||
            (self.clientAuthentication in ['client_secret_basic', 'client_secret_post'] ? has(self.clientSecretFrom) :
             self.clientAuthentication == 'private_key_jwt' ? has(self.clientKeyFrom) :
             !has(self.clientSecretFrom) && !has(self.clientKeyFrom))
        """,
        is_met_by=lambda spec: (
            spec.client_authentication is None
            or {
                "client_secret_basic": spec.client_secret_from is not None,
                "client_secret_post": spec.client_secret_from is not None,
                "private_key_jwt": spec.client_key_from is not None,
                "none": not (spec.client_secret_from or spec.client_key_from),
            }[spec.client_authentication]
        ),
    ),
    Rule(
        message="grantType client_credentials requires clientSecretFrom or clientKeyFrom",
        cel=f"self.grantType != '{CLIENT_CREDENTIALS}' || has(self.clientSecretFrom) || has(self.clientKeyFrom)",
        is_met_by=lambda spec: (
            spec.grant_type != CLIENT_CREDENTIALS or bool(spec.client_secret_from or spec.client_key_from)
        ),
    ),
    Rule(
        message="keyId and algorithm require clientKeyFrom",
        cel="has(self.clientKeyFrom) || !(has(self.keyId) || has(self.algorithm))",
        is_met_by=lambda spec: bool(spec.client_key_from) or not (spec.key_id or spec.algorithm),
    ),
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
        message="names of extraParameters must not be OAuth parameters or sound like secrets, and may contain only"
        " letters, digits, '.', '-' and '_'",
        cel=f"""
            !has(self.extraParameters) || self.extraParameters.all(k,
                !(k in {PROTOCOL_PARAMETERS}) && k.matches(r'^{PARAMETER}$') && !k.matches(r'{SECRET_PARAMETER}'))
        """,
        is_met_by=lambda spec: all(
            name not in PROTOCOL_PARAMETERS and re.fullmatch(PARAMETER, name) and not re.search(SECRET_PARAMETER, name)
            for name in spec.extra_parameters or {}
        ),
    ),
)
