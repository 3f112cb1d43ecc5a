"""Grant types, and the tokens that they give."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from tests.support.emulator.call_handler import Happening
from tests.support.emulator.oauth.assertions import signed_by
from tests.support.emulator.oauth.client_authentication import Client
from tests.support.emulator.oauth.refusal import OAuthError
from tests.support.emulator.oauth.token_families import Family
from tests.support.emulator.tokens import PublicKeys, SigningKey, in_seconds

_TYPE = "urn:ietf:params:oauth:token-type:"
_REFRESH = f"{_TYPE}refresh_token"
_TYPES = {f"{_TYPE}{name}" for name in ("access_token", "id_token", "jwt")}


@dataclass(frozen=True, slots=True)
class Asked:
    """A token request of a client that is who it says it is."""

    happening: Happening
    client: Client
    form: Mapping[str, str]

    def required(self, name: str) -> str:
        if name not in self.form:
            raise OAuthError("invalid_request", f"{name} is missing")
        return self.form[name]


def refresh_token(asked: Asked) -> dict[str, Any]:
    """Answer the refresh grant (RFC 6749 section 6): nothing is spent before all else is right."""
    world, now, token = asked.happening.world, asked.happening.now, asked.required("refresh_token")
    families, grace = world.issuer.families, timedelta(seconds=world.settings.oauth_grace_seconds)
    family = families.check(token, asked.client.client_id, now, grace)
    scopes = _scopes(asked, family)
    if families.consume(token, now, rotates=asked.client.rotates):
        world.counts["oauth:refresh_token"] += 1
        world.remember(family.newest)
    answer = _tokens(asked, family.subject, scopes)
    return {**answer, "refresh_token": family.newest} if asked.client.rotates else answer


def client_credentials(asked: Asked) -> dict[str, Any]:
    """Answer the client itself (RFC 6749 section 4.4): only one that shows who it is, and no refresh token."""
    if not (asked.client.client_secret or asked.client.public_key):
        raise OAuthError("unauthorized_client", "a public client has no credentials of its own")
    return _tokens(asked, asked.client.client_id, frozenset(asked.form.get("scope", "").split()))


def token_exchange(asked: Asked) -> dict[str, Any]:
    """Answer an exchange (RFC 8693): the subject's token, perhaps an actor's, for a token for somebody else."""
    wanted = asked.form.get("requested_token_type", f"{_TYPE}access_token")
    shown = {asked.required("subject_token_type"), asked.form.get("actor_token_type", f"{_TYPE}jwt")}
    if not (shown <= _TYPES and wanted in _TYPES | {_REFRESH}):
        raise OAuthError("invalid_request", "the token type is not one of this issuer's")
    if ("actor_token" in asked.form) != ("actor_token_type" in asked.form):
        raise OAuthError("invalid_request", "actor_token and actor_token_type go together")
    subject = signed_by(_keys(asked), asked.required("subject_token"), asked.happening.now)
    actor = asked.form.get("actor_token")
    acting = signed_by(_keys(asked), actor, asked.happening.now)["sub"] if actor else ""
    scopes = frozenset(asked.form.get("scope", "").split())
    answer = _tokens(asked, subject["sub"], scopes, {"act": {"sub": acting}} if actor else {})
    more = {"refresh_token": _first_refresh_token(asked, subject["sub"], scopes)} if wanted == _REFRESH else {}
    return {**answer, **more, "issued_token_type": wanted}


def _first_refresh_token(asked: Asked, subject: str, scopes: frozenset[str]) -> str:
    world = asked.happening.world
    token = world.issuer.families.start(asked.client.client_id, subject, scopes).newest
    world.remember(token)
    return token


def jwt_bearer(asked: Asked) -> dict[str, Any]:
    """Answer an assertion (RFC 7523 section 3): for this issuer, not over, and not shown before."""
    issuer, happening = asked.happening.world.issuer, asked.happening
    claims = signed_by(_keys(asked), asked.required("assertion"), happening.now)
    if claims.get("aud") not in {issuer.url, f"{issuer.url}/token"} or issuer.shown.again(claims):
        raise OAuthError("invalid_grant", "grant request is invalid")
    return _tokens(asked, claims["sub"], frozenset(asked.form.get("scope", "").split()))


def _keys(asked: Asked) -> dict[str, SigningKey | PublicKeys]:
    return {issuer: provider.key for issuer, provider in asked.happening.world.oidc_providers.items()}


def _audience(asked: Asked) -> str | list[str]:
    """Tell whom the token is for: what was asked for, else what the client is registered with."""
    wanted = [*asked.form.get("audience", "").split(), *asked.form.get("resource", "").split()]
    if any("refused" in one for one in wanted):
        raise OAuthError("invalid_target", "no tokens are given for that")
    return (wanted[0] if len(wanted) == 1 else wanted) or asked.client.audience


def _scopes(asked: Asked, family: Family) -> frozenset[str]:
    scopes = frozenset(asked.form.get("scope", "").split()) or family.scopes
    if not scopes <= family.scopes:
        raise OAuthError("invalid_scope", "the scope is more than was granted")
    return scopes


def _tokens(
    asked: Asked, subject: str, scopes: frozenset[str], more: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Issue the access token, and with the scope `openid` an ID token."""
    happening, client_id = asked.happening, asked.client.client_id
    seconds = -60 if happening.fault.expired else happening.world.settings.oauth_access_seconds
    padding = {"padding": "x" * happening.fault.token_characters} if happening.fault.token_characters else {}
    scope = " ".join(sorted(scopes))
    members = {"aud": _audience(asked), "client_id": client_id, "scope": scope, **padding, **more}
    answer = {"access_token": _signed(asked, subject, seconds, members), "token_type": "Bearer"}
    if "openid" in scopes:
        answer["id_token"] = _signed(asked, subject, seconds, {"aud": client_id})
    return {**answer, "expires_in": max(0, seconds), "scope": scope}


def _signed(asked: Asked, subject: str, seconds: int, members: dict[str, Any]) -> str:
    world, now = asked.happening.world, asked.happening.now
    lifetime = {"iat": int(now.timestamp()), "exp": int(in_seconds(now, seconds).timestamp())}
    token = world.issuer.key.sign({"iss": world.issuer.url, "sub": subject, **lifetime, **members})
    world.remember(token)
    return token


# By grant_type; whoever adds one adds a line here.
GRANTS: dict[str, Callable[[Asked], dict[str, Any]]] = {
    "refresh_token": refresh_token,
    "client_credentials": client_credentials,
    "urn:ietf:params:oauth:grant-type:token-exchange": token_exchange,
    "urn:ietf:params:oauth:grant-type:jwt-bearer": jwt_bearer,
}
