"""HTTP in, one operation, HTTP out."""

import uuid
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from tests.support.emulator import (
    codeartifact,
    cognito,
    control,
    ecr,
    identity_center,
    license_manager,
    registries,
    sts,
)
from tests.support.emulator.call_handler import WORLD, Happening, happen
from tests.support.emulator.oauth.app import OPERATION as OAUTH_OPERATION
from tests.support.emulator.protocols import AwsError, Signed
from tests.support.emulator.service import Call, Service
from tests.support.emulator.sigv4 import find_caller, signed_region
from tests.support.emulator.state import AccessKey, State

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


def make_app(world: State) -> web.Application:
    """Make the application: AWS at POST /, its public keys, and the control endpoint."""
    app = web.Application()
    app[WORLD] = world
    app.router.add_post("/", _answer)
    for method, path in _BY_PATH:
        app.router.add_route(method, path, _answer)
    registries.add_routes(app)
    app.router.add_get("/.well-known/jwks.json", _public_keys)
    control.add_routes(app, _OPERATIONS | {OAUTH_OPERATION})
    return app


async def _public_keys(request: web.Request) -> web.Response:
    return web.json_response({"keys": [request.app[WORLD].access_token_key.jwk()]})


async def _answer(request: web.Request) -> web.Response:
    signed = await _signed(request)
    service, operation = _addressed(signed)
    return await happen(request, service.label(operation), _Asked(service, operation, signed).response)


async def _signed(request: web.Request) -> Signed:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Signed(
        f"{request.scheme}://{request.host}{request.raw_path}", headers, await request.read(), request.method
    )


def _addressed(signed: Signed) -> tuple[Service, str]:
    addressed = _BY_PATH.get((signed.method, urlsplit(signed.url).path))
    if addressed:
        return addressed
    if "x-amz-target" in signed.headers:
        prefix, _, operation = signed.headers["x-amz-target"].partition(".")
        known = _BY_TARGET.get(prefix)
        return (known, operation) if known else (license_manager.SERVICE, "")
    return sts.SERVICE, parse_qs(signed.body.decode(errors="replace")).get("Action", [""])[0]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What was asked of AWS."""

    service: Service
    operation: str
    signed: Signed

    def response(self, happening: Happening) -> web.Response:
        request_id = str(uuid.uuid4())
        try:
            body, status, more = self._performed(happening, request_id), 200, {}
        except AwsError as error:
            happening.record.outcome = error.code
            body, status = self.service.wire.error(error, request_id), error.status
            more = self.service.wire.headers(error)
        headers = {"Content-Type": self.service.wire.content_type, "x-amzn-RequestId": request_id, **more}
        return web.Response(body=body, status=status, headers=headers)

    def _performed(self, happening: Happening, request_id: str) -> bytes:
        fault, record = happening.fault, happening.record
        if fault.code:
            raise AwsError(fault.code, fault.message, fault.status or 400, **fault.members)
        if self.operation not in self.service.operations:
            raise self.service.wire.refusal("unknown operation", f"Could not find operation {self.operation}")
        caller = self._caller(happening)
        record.principal = caller.principal.arn if caller else ""
        self._check_region(happening.world.settings.region)
        params = self.service.read(self.operation, self.signed)
        record.principal = record.principal or params.get("RoleArn", "anonymous")
        region = signed_region(self.signed) or happening.world.settings.region
        call = Call(happening.world, params, caller, happening.now, region, fault.expired)
        return self.service.write(self.operation, self.service.operations[self.operation](call), request_id)

    def _check_region(self, home: str) -> None:
        """Send who asks elsewhere than at home to the right region."""
        asked = signed_region(self.signed)
        if self.operation in self.service.at_home and asked not in {"", home}:
            location = f"https://{self.service.name}.{home}.amazonaws.com"
            raise AwsError("RedirectException", "This is not the correct Region", Location=location)

    def _caller(self, happening: Happening) -> AccessKey | None:
        never_signed = self.service.operation(self.operation).auth_type == "none"
        anonymous = "authorization" not in self.signed.headers
        if never_signed or (anonymous and self.operation in self.service.may_be_unsigned):
            return None
        return find_caller(happening.world, self.service, self.signed, happening.now)
