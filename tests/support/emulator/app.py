"""The AWS application: finds the operation of a request, checks its signature and runs it."""

import uuid
from functools import partial
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from tests.support.emulator import (
    ambient,
    codeartifact,
    cognito,
    control,
    ecr,
    identity_center,
    license_manager,
    registries,
    sts,
)
from tests.support.emulator.call_handler import STATE, CallContext, handle_call
from tests.support.emulator.oauth.app import OPERATION as OAUTH_OPERATION
from tests.support.emulator.protocols import AwsError, IncomingRequest
from tests.support.emulator.service import Call, Service
from tests.support.emulator.sigv4 import find_caller, signed_region
from tests.support.emulator.state import State

SERVICES = (
    license_manager.SERVICE,
    sts.SERVICE,
    identity_center.SERVICE,
    identity_center.PORTAL,
    cognito.SERVICE,
    codeartifact.SERVICE,
    ecr.SERVICE,
    ecr.PUBLIC_SERVICE,
)
_OPERATIONS = frozenset(service.label(name) for service in SERVICES for name in service.operations)
_BY_TARGET = {service.model.metadata.get("targetPrefix"): service for service in SERVICES}
_BY_PATH = {
    (http["method"], http["requestUri"].partition("?")[0]): (service, name)
    for service in SERVICES
    if service.model.metadata["protocol"] == "rest-json"
    for name in service.operations
    for http in [service.operation(name).http]
}


def make_app(state: State) -> web.Application:
    """Create the application: the AWS operations, the registries, ambient identities and the control endpoint."""
    app = web.Application()
    app[STATE] = state
    app.router.add_post("/", _handle)
    for method, path in _BY_PATH:
        app.router.add_route(method, path, _handle)
    registries.add_routes(app)
    ambient.add_routes(app)
    control.add_routes(app, _OPERATIONS | {OAUTH_OPERATION})
    return app


async def _handle(http_request: web.Request) -> web.Response:
    headers = {name.lower(): value for name, value in http_request.headers.items()}
    url = f"{http_request.scheme}://{http_request.host}{http_request.raw_path}"
    request = IncomingRequest(url, headers, await http_request.read(), http_request.method)
    service, operation = _find_operation(request)
    return await handle_call(http_request, service.label(operation), partial(_respond, service, operation, request))


def _find_operation(request: IncomingRequest) -> tuple[Service, str]:
    by_path = _BY_PATH.get((request.method, urlsplit(request.url).path))
    if by_path:
        return by_path
    if "x-amz-target" in request.headers:
        prefix, _, operation = request.headers["x-amz-target"].partition(".")
        service = _BY_TARGET.get(prefix)
        return (service, operation) if service else (license_manager.SERVICE, "")
    return sts.SERVICE, parse_qs(request.body.decode(errors="replace")).get("Action", [""])[0]


def _respond(service: Service, operation: str, request: IncomingRequest, context: CallContext) -> web.Response:
    request_id = str(uuid.uuid4())
    headers = {"Content-Type": service.protocol.content_type, "x-amzn-RequestId": request_id}
    try:
        body = _run(service, operation, request, context, request_id)
    except AwsError as error:
        context.record.outcome = error.code
        headers |= service.protocol.error_headers(error)
        return web.Response(body=service.protocol.error(error, request_id), status=error.status, headers=headers)
    return web.Response(body=body, headers=headers)


def _run(service: Service, operation: str, request: IncomingRequest, context: CallContext, request_id: str) -> bytes:
    fault, record, state = context.fault, context.record, context.state
    if fault.code:
        raise AwsError(fault.code, fault.message, fault.status or 400, **fault.members)
    if operation not in service.operations:
        raise service.protocol.common_error("unknown operation", f"Could not find operation {operation}")
    caller = None
    if _must_verify_signature(service, operation, request):
        caller = find_caller(state, service, request, context.now)
        record.principal = caller.principal.arn
    region, home = signed_region(request), state.settings.region
    if operation in service.home_region_only and region not in {"", home}:
        location = f"https://{service.name}.{home}.amazonaws.com"
        raise AwsError("RedirectException", "This is not the correct Region", Location=location)
    params = service.parse(operation, request)
    record.principal = record.principal or params.get("RoleArn", "anonymous")
    call = Call(state, params, caller, context.now, region or home, fault.expired)
    return service.serialize(operation, service.operations[operation](call), request_id)


def _must_verify_signature(service: Service, operation: str, request: IncomingRequest) -> bool:
    if service.operation(operation).auth_type == "none":
        return False
    return "authorization" in request.headers or operation not in service.unsigned_allowed
