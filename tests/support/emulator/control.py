"""The test's side door at /_control/: counts, faults, seeds, secrets. JSON in, JSON out."""

import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import msgspec
from aiohttp import web

from tests.support.emulator.call_handler import WORLD
from tests.support.emulator.constants import ACCOUNT, LICENSE_ARN
from tests.support.emulator.directory_control import DIRECTORY
from tests.support.emulator.faults import Fault
from tests.support.emulator.license_manager import mint
from tests.support.emulator.oauth.client_authentication import Client
from tests.support.emulator.state import (
    AccessKey,
    Principal,
    RefreshToken,
    Settings,
    State,
    identifier,
    secret_text,
)
from tests.support.emulator.tokens import PublicKeys, in_seconds


def add_routes(app: web.Application, operations: frozenset[str]) -> None:
    """Add the control endpoint; a fault for an operation that is not here is a mistake and is refused."""

    def add_fault(world: State, **fault: Any) -> None:
        if fault.get("operation") not in operations:
            raise ValueError(f"the operation is none of {sorted(operations)}")
        world.faults.add(msgspec.convert(fault, Fault))

    for route, act in {**_ROUTES, **DIRECTORY, "POST faults": add_fault}.items():
        method, _, path = route.partition(" ")
        app.router.add_route(method, f"/_control/{path}", _doing(act))


def _doing(act: Callable[..., Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        given = json.loads(await request.read() or "{}")
        try:
            return web.json_response(act(request.app[WORLD], **given))
        except (TypeError, ValueError) as error:
            raise web.HTTPBadRequest(text=str(error)) from error

    return handle


def _calls(world: State) -> dict[str, Any]:
    return {"counts": world.counts, "recent": [asdict(record) for record in world.recent]}


def _change_settings(world: State, **changes: Any) -> None:
    world.settings = msgspec.convert({**msgspec.structs.asdict(world.settings), **changes}, Settings)


def _trust_issuer(world: State, url: str, jwks: dict[str, Any], audience: str) -> str:
    arn = f"arn:aws:iam::{ACCOUNT}:role/Of{len(world.oidc_providers)}"
    world.trust(url, PublicKeys(jwks), {audience}, arn)
    return arn


def _add_user(world: State, name: str, account: str = ACCOUNT) -> dict[str, str]:
    arn = f"arn:aws:iam::{account}:user/{name}"
    user = Principal(arn, identifier("AIDA"))
    key = world.keep(AccessKey(identifier("AKIA"), secret_text(30), user))
    return {"access_key_id": key.access_key_id, "secret_access_key": key.secret_access_key}


def _add_mfa_code(world: State, name: str, account: str = ACCOUNT) -> dict[str, str]:
    serial, code = f"arn:aws:iam::{account}:mfa/{name}", f"{secrets.randbelow(10**6):06}"
    world.mfa_codes[serial, code] = world.now()
    return {"serial": serial, "code": code}


def _add_refresh_token(
    world: State, properties: list[str], expires_in: float, account: str = ACCOUNT, license_arn: str = LICENSE_ARN
) -> dict[str, str]:
    now = world.now()
    token = mint(world, RefreshToken(account, license_arn, now, in_seconds(now, expires_in), properties))
    return {"token": token.token, "token_id": token.token_id}


def _issuer(world: State) -> dict[str, str]:
    return {"url": world.issuer.url, "ca": world.issuer.ca}


def _add_oauth_client(world: State, **client: Any) -> None:
    new = msgspec.convert(client, Client)
    world.issuer.clients[new.client_id] = new
    world.remember(new.client_secret)


def _add_oauth_refresh_token(
    world: State, client: str, subject: str, scope: str, expires_in: float | None
) -> dict[str, str]:
    if client not in world.issuer.clients:
        raise ValueError(f"the client is none of {sorted(world.issuer.clients)}")
    ends = None if expires_in is None else in_seconds(world.now(), expires_in)
    family = world.issuer.families.start(client, subject, frozenset(scope.split()), ends)
    world.remember(family.newest)
    return {"token": family.newest}


def _oauth_family(world: State, token: str) -> dict[str, Any]:
    return asdict(world.issuer.families.find(token)[0].history)


_ROUTES: dict[str, Callable[..., Any]] = {
    "GET calls": _calls,
    "GET secrets": lambda world: world.secrets,
    "DELETE faults": lambda world: world.faults.clear(),
    "POST reset": State.forget_calls,
    "POST settings": _change_settings,
    "POST roles": State.add_role,
    "POST licenses": lambda world, arn: world.licenses.add(arn),
    "POST users": _add_user,
    "POST mfa-codes": _add_mfa_code,
    "POST refresh-tokens": _add_refresh_token,
    "GET issuer": _issuer,
    "POST oauth-clients": _add_oauth_client,
    "POST oauth-refresh-tokens": _add_oauth_refresh_token,
    "POST oauth-family": _oauth_family,
    "POST oidc-providers": _trust_issuer,
    "DELETE identities": lambda world: world.identities.clear(),
}
