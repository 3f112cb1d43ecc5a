"""The control endpoint of tests at /_control/, with JSON in and out: counts, faults, test data and secrets."""

import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import msgspec
from aiohttp import web

from tests.support.emulator.call_handler import STATE
from tests.support.emulator.constants import ACCOUNT, LICENSE_ARN, REDIRECT_URI
from tests.support.emulator.directory import Application, AuthorizationCode, UserSession
from tests.support.emulator.faults import Fault
from tests.support.emulator.license_manager import issue
from tests.support.emulator.oauth.issuer import Client
from tests.support.emulator.state import (
    AccessKey,
    LicenseToken,
    PodIdentityAssociation,
    Principal,
    Settings,
    State,
    iam_id,
    random_secret,
)
from tests.support.emulator.tokens import PublicKeys, in_seconds, validity


def add_routes(app: web.Application, operations: frozenset[str]) -> None:
    """Add the control endpoint; a fault must name one of these operations."""

    def add_fault(state: State, **fault: Any) -> None:
        if fault.get("operation") not in operations:
            raise ValueError(f"the operation must be one of {sorted(operations)}")
        state.faults.append(msgspec.convert(fault, Fault))

    for route, action in {**_ROUTES, "POST faults": add_fault}.items():
        method, _, path = route.partition(" ")
        app.router.add_route(method, f"/_control/{path}", _handler(action))


def _handler(action: Callable[..., Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        arguments = json.loads(await request.read() or "{}")
        try:
            return web.json_response(action(request.app[STATE], **arguments))
        except (TypeError, ValueError) as error:
            raise web.HTTPBadRequest(text=str(error)) from error

    return handle


def _calls(state: State) -> dict[str, Any]:
    return {"counts": state.counts, "recent": [asdict(record) for record in state.recent_calls]}


def _change_settings(state: State, **changes: Any) -> None:
    state.settings = msgspec.convert({**msgspec.structs.asdict(state.settings), **changes}, Settings)


def _trust_issuer(state: State, url: str, jwks: dict[str, Any], audience: str) -> str:
    arn = f"arn:aws:iam::{ACCOUNT}:role/Of{len(state.oidc_providers)}"
    known = state.oidc_providers[url].audiences if url in state.oidc_providers else frozenset()
    state.trust_issuer(url, PublicKeys(jwks), {audience, *known}, arn)
    return arn


def _add_user(state: State, name: str) -> dict[str, str]:
    user = Principal(f"arn:aws:iam::{ACCOUNT}:user/{name}", iam_id("AIDA"))
    key = state.add_access_key(AccessKey(iam_id("AKIA"), random_secret(30), user))
    return {"access_key_id": key.access_key_id, "secret_access_key": key.secret_access_key}


def _set_ambient(state: State, instance_role: str = "", **association: Any) -> None:
    state.instance_role = instance_role
    state.pod_identity = msgspec.convert(association, PodIdentityAssociation) if association else None


def _add_mfa_code(state: State) -> dict[str, str]:
    serial, code = f"arn:aws:iam::{ACCOUNT}:mfa/keyturn", f"{secrets.randbelow(10**6):06}"
    state.mfa_codes[serial, code] = state.now()
    return {"serial": serial, "code": code}


def _add_license_token(
    state: State, properties: list[str], expires_in: float, account: str = ACCOUNT, license_arn: str = LICENSE_ARN
) -> dict[str, str]:
    now = state.now()
    token = issue(state, LicenseToken(account, license_arn, now, in_seconds(now, expires_in), properties))
    return {"token": token.token, "token_id": token.token_id}


def _add_oauth_client(state: State, **client: Any) -> None:
    new = msgspec.convert(client, Client)
    state.issuer.clients[new.client_id] = new
    state.record_secrets(new.client_secret)


def _add_oauth_refresh_token(state: State, client: str, subject: str, scope: str, expires_in: float | None) -> str:
    if client not in state.issuer.clients:
        raise ValueError(f"the client must be one of {sorted(state.issuer.clients)}")
    expires_at = None if expires_in is None else in_seconds(state.now(), expires_in)
    family = state.issuer.families.start(client, subject, frozenset(scope.split()), expires_at)
    state.record_secrets(family.newest)
    return family.newest


def _sign_jwt(state: State, audience: str, subject: str = "demo-user", expires_in: float = 300) -> str:
    claims = {"iss": state.issuer.url, "sub": subject, "aud": audience, "email": f"{subject}@example.com"}
    now = state.now()
    token = state.issuer.key.sign(claims | validity(now, in_seconds(now, expires_in)))
    state.record_secrets(token)
    return token


def _add_application(state: State, **application: Any) -> None:
    new = msgspec.convert(application, Application)
    state.directory.applications[new.arn] = new


def _add_code(state: State, application: str, challenge: str) -> str:
    code = secrets.token_urlsafe(32)
    state.directory.codes[code] = AuthorizationCode(application, "demo-user", REDIRECT_URI, challenge, state.now())
    state.record_secrets(code)
    return code


def _add_identity_center_token(state: State, application: str) -> str:
    scopes = state.directory.applications[application].scopes
    expires_at = in_seconds(state.now(), state.settings.identity_center_seconds)
    token = state.directory.add_session(UserSession("demo-user", application, scopes, expires_at))
    state.record_secrets(token)
    return token


def _add_identity_center_refresh_token(state: State, application: str) -> str:
    scopes = state.directory.applications[application].scopes
    family = state.directory.families.start(application, "demo-user", scopes)
    state.record_secrets(family.newest)
    return family.newest


def _identity_center_family(state: State, token: str) -> dict[str, Any]:
    directory = state.directory
    return asdict(directory.families.find(directory.code_tokens.get(token, token))[0].history)


_ROUTES: dict[str, Callable[..., Any]] = {
    "GET calls": _calls,
    "GET secrets": lambda state: state.secrets,
    "GET issuer": lambda state: {name: getattr(state.issuer, name) for name in ("url", "address", "ca")},
    "DELETE faults": lambda state: state.faults.clear(),
    "DELETE identities": lambda state: state.identities.clear(),
    "DELETE identity-center-sessions": lambda state: state.directory.sessions.clear(),
    "POST reset": State.reset,
    "POST settings": _change_settings,
    "POST roles": State.add_role,
    "POST users": _add_user,
    "POST ambient": _set_ambient,
    "POST mfa-codes": _add_mfa_code,
    "POST refresh-tokens": _add_license_token,
    "POST oidc-providers": _trust_issuer,
    "POST oauth-clients": _add_oauth_client,
    "POST oauth-refresh-tokens": _add_oauth_refresh_token,
    "POST oauth-family": lambda state, token: asdict(state.issuer.families.find(token)[0].history),
    "POST jwts": _sign_jwt,
    "POST identity-center-applications": _add_application,
    "POST identity-center-codes": _add_code,
    "POST identity-center-tokens": _add_identity_center_token,
    "POST identity-center-refresh-tokens": _add_identity_center_refresh_token,
    "POST identity-center-family": _identity_center_family,
}
