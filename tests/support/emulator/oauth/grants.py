"""The grant types, and the tokens that they issue."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tests.support.emulator.call_handler import CallContext
from tests.support.emulator.oauth import OAuthError, invalid_grant
from tests.support.emulator.oauth.assertions import verify_assertion
from tests.support.emulator.oauth.issuer import Client, IssuerState
from tests.support.emulator.tokens import in_seconds, validity

_TYPE = "urn:ietf:params:oauth:token-type:"
_REFRESH_TOKEN = f"{_TYPE}refresh_token"
_JWT_TYPES = {f"{_TYPE}{name}" for name in ("access_token", "id_token", "jwt")}


@dataclass(frozen=True, slots=True)
class Grant:
    """A token request of an authenticated client."""

    context: CallContext
    client: Client
    form: Mapping[str, str]

    @property
    def issuer(self) -> IssuerState:
        return self.context.state.issuer

    @property
    def scopes(self) -> frozenset[str]:
        return frozenset(self.form.get("scope", "").split())

    def required(self, name: str) -> str:
        if name not in self.form:
            raise OAuthError("invalid_request", f"{name} is missing")
        return self.form[name]

    def verified_claims(self, token: str) -> dict[str, Any]:
        return verify_assertion(self.context.state.trusted_keys, token, self.context.now)


def refresh_token(grant: Grant) -> dict[str, Any]:
    """Refresh (RFC 6749 section 6): a rejected request consumes nothing."""
    families, state, token = grant.issuer.families, grant.context.state, grant.required("refresh_token")
    family = families.check(token, grant.client.client_id, grant.context.now)
    if not grant.scopes <= family.scopes:
        raise OAuthError("invalid_scope", "the scope exceeds what was granted")
    families.consume(token, rotate=grant.client.rotates)
    state.counts["oauth:refresh_token"] += 1
    state.record_secrets(family.newest)
    members = _issue_tokens(grant, family.subject, grant.scopes or family.scopes)
    return {**members, "refresh_token": family.newest} if grant.client.rotates else members


def client_credentials(grant: Grant) -> dict[str, Any]:
    """Client credentials (RFC 6749 section 4.4): only for a confidential client."""
    if grant.client.is_public:
        raise OAuthError("unauthorized_client", "a public client has no credentials of its own")
    return _issue_tokens(grant, grant.client.client_id, grant.scopes)


def token_exchange(grant: Grant) -> dict[str, Any]:
    """Token exchange (RFC 8693), by delegation if there is an actor token."""
    requested_type = grant.form.get("requested_token_type", f"{_TYPE}access_token")
    types = {grant.required("subject_token_type"), grant.form.get("actor_token_type", f"{_TYPE}jwt")}
    if not (types <= _JWT_TYPES and requested_type in _JWT_TYPES | {_REFRESH_TOKEN}):
        raise OAuthError("invalid_request", "the issuer does not support this token type")
    if ("actor_token" in grant.form) != ("actor_token_type" in grant.form):
        raise OAuthError("invalid_request", "actor_token requires actor_token_type, and the reverse")
    subject = grant.verified_claims(grant.required("subject_token"))["sub"]
    actor = grant.form.get("actor_token")
    act = {"act": {"sub": grant.verified_claims(actor)["sub"]}} if actor else {}
    members = {**_issue_tokens(grant, subject, grant.scopes, act), "issued_token_type": requested_type}
    if requested_type == _REFRESH_TOKEN:
        family = grant.issuer.families.start(grant.client.client_id, subject, grant.scopes)
        grant.context.state.record_secrets(family.newest)
        members["refresh_token"] = family.newest
    return members


def jwt_bearer(grant: Grant) -> dict[str, Any]:
    """JWT bearer (RFC 7523 section 3): an assertion for this issuer, accepted once."""
    claims = grant.verified_claims(grant.required("assertion"))
    if claims.get("aud") not in grant.issuer.audiences or grant.issuer.replay_cache.is_replay(claims):
        raise invalid_grant()
    return _issue_tokens(grant, claims["sub"], grant.scopes)


def _audience(grant: Grant) -> str | list[str]:
    """Return the requested audiences, else the one that the client is registered with."""
    requested = [*grant.form.get("audience", "").split(), *grant.form.get("resource", "").split()]
    if any("refused" in audience for audience in requested):
        raise OAuthError("invalid_target", "the issuer issues no tokens for this target")
    return (requested[0] if len(requested) == 1 else requested) or grant.client.audience


def _issue_tokens(
    grant: Grant, subject: str, scopes: frozenset[str], more: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Issue an access token and, for the scope `openid`, an ID token."""
    context, client_id = grant.context, grant.client.client_id
    fault = context.fault
    seconds = -60 if fault.expired else context.state.settings.oauth_access_seconds

    def sign(claims: dict[str, Any]) -> str:
        common = {"iss": grant.issuer.url, "sub": subject}
        token = grant.issuer.key.sign(common | validity(context.now, in_seconds(context.now, seconds)) | claims)
        context.state.record_secrets(token)
        return token

    padding = {"padding": "x" * fault.token_characters} if fault.token_characters else {}
    scope = " ".join(sorted(scopes))
    claims = {"aud": _audience(grant), "client_id": client_id, "scope": scope, **padding, **more}
    members = {"access_token": sign(claims), "token_type": "Bearer"}
    if "openid" in scopes:
        members["id_token"] = sign({"aud": client_id})
    return {**members, "expires_in": max(0, seconds), "scope": scope}


GRANTS: dict[str, Callable[[Grant], dict[str, Any]]] = {
    "refresh_token": refresh_token,
    "client_credentials": client_credentials,
    "urn:ietf:params:oauth:grant-type:token-exchange": token_exchange,
    "urn:ietf:params:oauth:grant-type:jwt-bearer": jwt_bearer,
}
