"""The issuer's application: public keys and the token endpoint."""

from collections import Counter
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from tests.support.emulator.call_handler import STATE, CallContext, handle_call
from tests.support.emulator.oauth import OAuthError
from tests.support.emulator.oauth.grants import GRANTS, Grant
from tests.support.emulator.state import State

OPERATION = "oauth:token"
_FORM = "application/x-www-form-urlencoded"
_REPEATABLE = ("audience", "resource")
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def make_issuer_app(state: State) -> web.Application:
    app = web.Application()
    app[STATE] = state
    app.router.add_get("/jwks", _public_keys)
    # Issuers have different paths before it.
    app.router.add_post("/{path:(.*[/_])?}token", _token)
    return app


async def _public_keys(request: web.Request) -> web.Response:
    return web.json_response({"keys": [request.app[STATE].issuer.key.jwk()]})


async def _token(request: web.Request) -> web.Response:
    return await handle_call(request, OPERATION, partial(_respond, request, await request.text()))


def _respond(request: web.Request, body: str, context: CallContext) -> web.Response:
    try:
        members, status = _run_grant(request, body, context), 200
    except OAuthError as error:
        context.record.outcome = error.code
        members, status = error.body, error.status
    members.pop(context.fault.without, None)
    challenge = {"WWW-Authenticate": 'Basic realm="issuer"'} if status == web.HTTPUnauthorized.status_code else {}
    return web.json_response(members, status=status, headers=_NO_STORE | challenge)


def _run_grant(request: web.Request, body: str, context: CallContext) -> dict[str, Any]:
    fault = context.fault
    if fault.code:
        raise OAuthError(fault.code, fault.message, fault.status or 400, **fault.members)
    form = _parse_form(request.content_type, body)
    authorization = request.headers.get("Authorization", "")
    client = context.state.issuer.authenticate(context.now, authorization, form, context.state.trusted_keys)
    context.record.principal = client.client_id
    grant = Grant(context, client, form)
    run = GRANTS.get(grant.required("grant_type"))
    if run is None:
        raise OAuthError("unsupported_grant_type", "the issuer does not support this grant type")
    return run(grant)


def _parse_form(content_type: str, body: str) -> dict[str, str]:
    """Parse the form: an empty parameter counts as absent, none may be repeated (RFC 6749 section 3.2).

    Only `audience` and `resource` may (RFC 8693 section 2.1): their values are joined with spaces.
    """
    pairs = parse_qsl(body)
    counts = Counter(name for name, _ in pairs if name not in _REPEATABLE)
    if content_type != _FORM or max(counts.values(), default=0) > 1:
        raise OAuthError("invalid_request", "the body must be a form without repeated parameters")
    joined = {name: " ".join(value for key, value in pairs if key == name) for name in _REPEATABLE}
    return dict(pairs) | {name: values for name, values in joined.items() if values}
