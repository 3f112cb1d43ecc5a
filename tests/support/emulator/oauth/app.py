"""HTTP in, one grant, HTTP out."""

from collections import Counter
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from tests.support.emulator.call_handler import WORLD, Happening, happen
from tests.support.emulator.oauth.client_authentication import Desk, authenticated
from tests.support.emulator.oauth.grants import GRANTS, Asked
from tests.support.emulator.oauth.refusal import OAuthError
from tests.support.emulator.state import State

OPERATION = "oauth:token"
_FORM = "application/x-www-form-urlencoded"
_MANY = ("audience", "resource")
_NOT_KEPT = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def make_issuer_app(world: State) -> web.Application:
    """Make the issuer: its metadata, its public keys and its token endpoint."""
    app = web.Application()
    app[WORLD] = world
    app.router.add_get("/.well-known/openid-configuration", _metadata)
    app.router.add_get("/jwks", _public_keys)
    app.router.add_post("/token", _answer)
    return app


async def _metadata(request: web.Request) -> web.Response:
    """Tell what OpenID Connect Discovery 1.0 section 3 wants to know; there is no authorization endpoint."""
    url = request.app[WORLD].issuer.url
    return web.json_response(
        {
            "issuer": url,
            "token_endpoint": f"{url}/token",
            "jwks_uri": f"{url}/jwks",
            "grant_types_supported": list(GRANTS),
            "token_endpoint_auth_methods_supported": [
                "client_secret_basic",
                "client_secret_post",
                "private_key_jwt",
                "none",
            ],
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
    )


async def _public_keys(request: web.Request) -> web.Response:
    return web.json_response({"keys": [request.app[WORLD].issuer.key.jwk()]})


async def _answer(request: web.Request) -> web.Response:
    return await happen(request, OPERATION, partial(_response, request, await request.text()))


def _response(request: web.Request, body: str, happening: Happening) -> web.Response:
    try:
        answer, status = _granted(request, body, happening), 200
    except OAuthError as error:
        happening.record.outcome = error.code
        answer, status = error.answer, error.status
    answer.pop(happening.fault.without, None)
    challenge = {"WWW-Authenticate": 'Basic realm="issuer"'} if status == web.HTTPUnauthorized.status_code else {}
    return web.json_response(answer, status=status, headers=_NOT_KEPT | challenge)


def _granted(request: web.Request, body: str, happening: Happening) -> dict[str, Any]:
    fault, world = happening.fault, happening.world
    if fault.code:
        raise OAuthError(fault.code, fault.message, fault.status or 400, **fault.members)
    form = _form(request.content_type, body)
    issuer = world.issuer
    desk = Desk(issuer.clients, {issuer.url, f"{issuer.url}/token"}, issuer.shown, happening.now)
    client = authenticated(desk, request.headers.get("Authorization", ""), form)
    happening.record.principal = client.client_id
    asked = Asked(happening, client, form)
    grant = GRANTS.get(asked.required("grant_type"))
    if grant is None:
        raise OAuthError("unsupported_grant_type", "the grant type is not one of this issuer's")
    return grant(asked)


def _form(content_type: str, body: str) -> dict[str, str]:
    """Read the parameters: an empty one counts as absent, none may come twice (RFC 6749 section 3.2).

    But for `audience` and `resource` (RFC 8693 section 2.1): they are told with spaces between them.
    """
    pairs = parse_qsl(body)
    counts = Counter(name for name, _ in pairs if name not in _MANY)
    if content_type != _FORM or max(counts.values(), default=0) > 1:
        raise OAuthError("invalid_request", "the body is a form in which each parameter comes once")
    many = {name: " ".join(value for key, value in pairs if key == name) for name in _MANY}
    return dict(pairs) | {name: values for name, values in many.items() if values}
