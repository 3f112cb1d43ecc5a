"""The test's side door to Identity Center, and to what the issuer signs for it."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import msgspec

from tests.support.emulator.constants import REDIRECT_URI
from tests.support.emulator.directory import Application, Code, Session
from tests.support.emulator.state import State
from tests.support.emulator.tokens import in_seconds


def _add_application(world: State, **application: Any) -> None:
    new = msgspec.convert(application, Application)
    world.directory.applications[new.arn] = new


def _add_code(world: State, application: str, challenge: str, user: str = "demo-user") -> dict[str, str]:
    code = world.directory.new_code(Code(application, user, REDIRECT_URI, challenge, world.now()))
    world.remember(code)
    return {"code": code}


def _add_center_token(world: State, application: str, user: str = "demo-user") -> dict[str, str]:
    scopes = world.directory.applications[application].scopes
    ends = in_seconds(world.now(), world.settings.identity_center_seconds)
    token = world.directory.new_session(Session(user, application, scopes, ends))
    world.remember(token)
    return {"token": token}


def _add_center_refresh_token(world: State, application: str, user: str = "demo-user") -> dict[str, str]:
    scopes = world.directory.applications[application].scopes
    family = world.directory.families.start(application, user, scopes)
    world.remember(family.newest)
    return {"token": family.newest}


def _center_family(world: State, token: str) -> dict[str, Any]:
    directory = world.directory
    return asdict(directory.families.find(directory.of_code.get(token, token))[0].history)


def _sign(world: State, audience: str, subject: str = "demo-user", expires_in: float = 300) -> dict[str, str]:
    now = world.now()
    times = {"iat": int(now.timestamp()), "exp": int(in_seconds(now, expires_in).timestamp())}
    claims = {"iss": world.issuer.url, "sub": subject, "aud": audience, "email": f"{subject}@example.com"}
    token = world.issuer.key.sign({**claims, **times})
    world.remember(token)
    return {"token": token}


DIRECTORY: dict[str, Callable[..., Any]] = {
    "POST identity-center-applications": _add_application,
    "POST identity-center-codes": _add_code,
    "POST identity-center-tokens": _add_center_token,
    "POST identity-center-refresh-tokens": _add_center_refresh_token,
    "POST identity-center-family": _center_family,
    "DELETE identity-center-sessions": lambda world: world.directory.sessions.clear(),
    "POST jwts": _sign,
}
