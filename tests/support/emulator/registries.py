"""The registries that CodeArtifact's and ECR's tokens open: as little of them as shows that a token works."""

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime

from aiohttp import web

from tests.support.emulator.call_handler import WORLD

_PAGE = '<!DOCTYPE html><html><body><a href="/pypi/{0}/simple/demo/">demo</a></body></html>'


def add_routes(app: web.Application) -> None:
    """Add the base of a container registry, and the index of Python packages of each repository."""
    app.router.add_get("/v2/", _container_registry)
    app.router.add_get("/pypi/{repository}/simple/", _python_index)
    app.router.add_get("/npm/{repository}/{package}", _npm_package)


async def _container_registry(request: web.Request) -> web.Response:
    world = request.app[WORLD]
    if not _opens(request, "AWS", world.registry_passwords, world.now()):
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="ecr"'})
    return web.json_response({}, headers={"Docker-Distribution-Api-Version": "registry/2.0"})


async def _python_index(request: web.Request) -> web.Response:
    world = request.app[WORLD]
    if not _opens(request, "aws", world.package_tokens, world.now()):
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="codeartifact"'})
    return web.Response(text=_PAGE.format(request.match_info["repository"]), content_type="text/html")


async def _npm_package(request: web.Request) -> web.Response:
    world = request.app[WORLD]
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if world.package_tokens.get(token, world.now()) <= world.now():
        return web.Response(status=401)
    return web.json_response({"name": request.match_info["package"], "versions": {}})


def _opens(request: web.Request, user: str, passwords: Mapping[str, datetime], now: datetime) -> bool:
    kind, _, encoded = request.headers.get("Authorization", "").partition(" ")
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return False
    return kind.lower() == "basic" and name == user and passwords.get(password, now) > now
