"""What the fields of oauthToken say to each other."""

import re

from keyturn.api.base import Rule
from keyturn.api.exchanges.grant_types import CLIENT_CREDENTIALS, JWT_BEARER, TOKEN_EXCHANGE

# What has a field of its own, or would need one: a parameter beside it could replace it.
_PROTOCOL = (
    "grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "scope", "audience",
    "resource", "refresh_token", "assertion", "subject_token", "subject_token_type", "requested_token_type",
    "actor_token", "actor_token_type", "code", "code_verifier", "redirect_uri", "username", "device_code",
)  # fmt: skip
_NAME = r"^[A-Za-z][A-Za-z0-9_.-]*$"
_SECRET = r"([Ss]ecret|[Pp]assword|[Pp]assphrase|[Aa]pi[-_]?[Kk]ey|[Pp]rivate[-_]?[Kk]ey)"  # noqa: S105 - of names
_EXCHANGED = ("subject_token_type", "requested_token_type", "actor_token_from", "actor_token_type")
_EXCHANGED_CEL = " || ".join(
    f"has(self.{name})" for name in ("subjectTokenType", "requestedTokenType", "actorTokenFrom", "actorTokenType")
)


def _is_free(name: str) -> bool:
    return name not in _PROTOCOL and bool(re.match(_NAME + r"\Z", name)) and not re.search(_SECRET, name)


RULES = (
    Rule(
        message="clientId is missing: only token-exchange and jwt-bearer may go without, and without authentication",
        cel=f"has(self.clientId) || (self.grantType in ['{TOKEN_EXCHANGE}', '{JWT_BEARER}'] && "
        "!has(self.clientSecretFrom) && !has(self.clientKeyFrom))",
        is_met_by=lambda it: (
            it.client_id is not None
            or (it.grant_type in (TOKEN_EXCHANGE, JWT_BEARER) and not (it.client_secret_from or it.client_key_from))
        ),
    ),
    Rule(
        message="give clientSecretFrom or clientKeyFrom, not both",
        cel="!has(self.clientSecretFrom) || !has(self.clientKeyFrom)",
        is_met_by=lambda it: not (it.client_secret_from and it.client_key_from),
    ),
    Rule(
        message="clientAuthentication basic and post need clientSecretFrom, "
        "private_key_jwt clientKeyFrom, none needs neither",
        cel="!has(self.clientAuthentication) || (self.clientAuthentication in ['basic', 'post'] ? "
        "has(self.clientSecretFrom) : self.clientAuthentication == 'private_key_jwt' ? has(self.clientKeyFrom) : "
        "!has(self.clientSecretFrom) && !has(self.clientKeyFrom))",
        is_met_by=lambda it: _is_authenticated(it.client_authentication, it.client_secret_from, it.client_key_from),
    ),
    Rule(
        message="grantType client_credentials needs clientSecretFrom or clientKeyFrom",
        cel=f"self.grantType != '{CLIENT_CREDENTIALS}' || has(self.clientSecretFrom) || has(self.clientKeyFrom)",
        is_met_by=lambda it: it.grant_type != CLIENT_CREDENTIALS or bool(it.client_secret_from or it.client_key_from),
    ),
    Rule(
        message="keyId and algorithm are of clientKeyFrom",
        cel="has(self.clientKeyFrom) || !(has(self.keyId) || has(self.algorithm))",
        is_met_by=lambda it: bool(it.client_key_from) or not (it.key_id or it.algorithm),
    ),
    Rule(
        message="subjectTokenType, requestedTokenType and actorToken... are for grantType token-exchange, which needs"
        " the first",
        cel=f"self.grantType == '{TOKEN_EXCHANGE}' ? has(self.subjectTokenType) : !({_EXCHANGED_CEL})",
        is_met_by=lambda it: (
            it.subject_token_type is not None
            if it.grant_type == TOKEN_EXCHANGE
            else all(getattr(it, name) is None for name in _EXCHANGED)
        ),
    ),
    Rule(
        message="actorTokenFrom and actorTokenType go together",
        cel="has(self.actorTokenFrom) == has(self.actorTokenType)",
        is_met_by=lambda it: (it.actor_token_from is None) == (it.actor_token_type is None),
    ),
    Rule(
        message="from says which token goes on with token-exchange and jwt-bearer; this grant reads none",
        cel=f"!has(self.from) || self.grantType in ['{TOKEN_EXCHANGE}', '{JWT_BEARER}']",
        is_met_by=lambda it: it.from_ is None or it.grant_type in (TOKEN_EXCHANGE, JWT_BEARER),
    ),
    Rule(
        message="extraParameters may not be parameters of OAuth, nor secrets, nor have other characters in their"
        " names than letters, digits, dots, dashes and underscores",
        cel=f"!has(self.extraParameters) || self.extraParameters.all(k, !(k in {list(_PROTOCOL)}) && "
        f"k.matches(r'{_NAME}') && !k.matches(r'{_SECRET}'))",
        is_met_by=lambda it: all(_is_free(name) for name in it.extra_parameters or {}),
    ),
)


def _is_authenticated(how: str | None, secret: object, key: object) -> bool:
    wanted = {
        "basic": (True, False),
        "post": (True, False),
        "private_key_jwt": (False, True),
        "none": (False, False),
    }
    return how is None or wanted[how] == (secret is not None, key is not None)
