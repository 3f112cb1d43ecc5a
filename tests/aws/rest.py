"""The REST protocol: what stands in path, query and headers, put where the other protocols have it."""

import json
from collections.abc import Iterator
from typing import Any

from aiohttp import web
from botocore.model import Shape

from tests.aws.service import Service


def routes(service: Service) -> Iterator[tuple[str, str, str]]:
    """Tell method, path and name of the operations of a REST service; none of another."""
    if service.model.metadata["protocol"] != "rest-json":
        return
    for name in service.operations:
        http = service.operation(name).http
        yield http["method"], http["requestUri"].partition("?")[0], name


def body(service: Service, operation: str, request: web.Request, sent: bytes) -> bytes:
    """Write the parameters as one JSON object; what is not one is left for the service to refuse."""
    shape = service.operation(operation).input_shape
    members: dict[str, Shape] = shape.members if shape else {}
    try:
        params: Any = json.loads(sent or b"{}")
    except ValueError:
        return sent
    given = {name: _elsewhere(member, request) for name, member in members.items()}
    params |= {name: value for name, value in given.items() if value is not None}
    return json.dumps(params).encode()


def _elsewhere(member: Shape, request: web.Request) -> Any:
    where, name = member.serialization.get("location"), member.serialization.get("name", "")
    text = {"querystring": request.query, "header": request.headers, "uri": request.match_info}.get(
        where or "", {}
    )
    value = text.get(name)
    return int(value) if value and member.type_name in ("integer", "long") and value.isdecimal() else value
