"""Grant types, and the tokens that they give."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tests.aws.happening import Happening
from tests.aws.oauth.clients import Client
from tests.aws.oauth.families import Family
from tests.aws.oauth.refusal import OAuthError
from tests.aws.tokens import in_seconds


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
    if families.spend(token, now, rotates=asked.client.rotates):
        world.counts["oauth:refresh_token"] += 1
        world.remember(family.newest)
    answer = _tokens(asked, family.subject, scopes)
    return {**answer, "refresh_token": family.newest} if asked.client.rotates else answer


def _scopes(asked: Asked, family: Family) -> frozenset[str]:
    scopes = frozenset(asked.form.get("scope", "").split()) or family.scopes
    if not scopes <= family.scopes:
        raise OAuthError("invalid_scope", "the scope is more than was granted")
    return scopes


def _tokens(asked: Asked, subject: str, scopes: frozenset[str]) -> dict[str, Any]:
    """Issue the access token, and with the scope `openid` an ID token."""
    happening, client_id = asked.happening, asked.client.client_id
    seconds = -60 if happening.fault.expired else happening.world.settings.oauth_access_seconds
    padding = {"padding": "x" * happening.fault.token_characters} if happening.fault.token_characters else {}
    scope = " ".join(sorted(scopes))
    members = {"aud": asked.client.audience, "client_id": client_id, "scope": scope, **padding}
    answer = {"access_token": _signed(asked, subject, seconds, members), "token_type": "Bearer"}
    if "openid" in scopes:
        answer["id_token"] = _signed(asked, subject, seconds, {"aud": client_id})
    return {**answer, "expires_in": max(0, seconds), "scope": scope}


def _signed(asked: Asked, subject: str, seconds: int, members: dict[str, str]) -> str:
    world, now = asked.happening.world, asked.happening.now
    lifetime = {"iat": int(now.timestamp()), "exp": int(in_seconds(now, seconds).timestamp())}
    token = world.issuer.key.sign({"iss": world.issuer.url, "sub": subject, **lifetime, **members})
    world.remember(token)
    return token


# By grant_type; whoever adds one adds a line here.
GRANTS: dict[str, Callable[[Asked], dict[str, Any]]] = {"refresh_token": refresh_token}
