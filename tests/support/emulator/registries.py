"""Package and image registries that accept the tokens of CodeArtifact and ECR, and do nothing else."""

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime

from aiohttp import web

from tests.support.emulator.call_handler import STATE

_PAGE = '<!DOCTYPE html><html><body><a href="/pypi/{0}/simple/demo/">demo</a></body></html>'


def add_routes(app: web.Application) -> None:
    """Add the root of an image registry, and the PyPI index and npm packages of each repository."""
    app.router.add_get("/v2/", _image_registry)
    app.router.add_get("/pypi/{repository}/simple/", _python_index)
    app.router.add_get("/npm/{repository}/{package}", _npm_package)


async def _image_registry(request: web.Request) -> web.Response:
    if not _has_valid_password(request, "AWS", request.app[STATE].registry_passwords):
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="ecr"'})
    return web.json_response({}, headers={"Docker-Distribution-Api-Version": "registry/2.0"})


async def _python_index(request: web.Request) -> web.Response:
    if not _has_valid_password(request, "aws", request.app[STATE].package_tokens):
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="codeartifact"'})
    return web.Response(text=_PAGE.format(request.match_info["repository"]), content_type="text/html")


async def _npm_package(request: web.Request) -> web.Response:
    state = request.app[STATE]
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if state.package_tokens.get(token, state.now()) <= state.now():
        return web.Response(status=401)
    return web.json_response({"name": request.match_info["package"], "versions": {}})


def _has_valid_password(request: web.Request, user: str, passwords: Mapping[str, datetime]) -> bool:
    now = request.app[STATE].now()
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return False
    return scheme.lower() == "basic" and name == user and passwords.get(password, now) > now
