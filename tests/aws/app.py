"""HTTP in, one operation, HTTP out."""

import asyncio
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qs

from aiohttp import web

from tests.aws import control, license_manager, sts
from tests.aws.faults import Fault
from tests.aws.service import Call, Service
from tests.aws.sigv4 import Signed, find_caller
from tests.aws.wire import AwsError
from tests.aws.world import AccessKey, Record, World

SERVICES = (license_manager.SERVICE, sts.SERVICE)
_OPERATIONS = frozenset(name for service in SERVICES for name in service.operations)
_BY_TARGET = {service.model.metadata.get("targetPrefix"): service for service in SERVICES}
_PAGE = "<!DOCTYPE html><html><head><title>Not AWS</title></head><body><h1>Not AWS</h1></body></html>"


def make_app(world: World) -> web.Application:
    """Make the application: AWS at POST /, its public keys, and the control endpoint."""
    app = web.Application()
    app[control.WORLD] = world
    app.router.add_post("/", _answer)
    app.router.add_get("/.well-known/jwks.json", _public_keys)
    control.add_routes(app, _OPERATIONS)
    return app


async def _public_keys(request: web.Request) -> web.Response:
    return web.json_response({"keys": [request.app[control.WORLD].access_token_key.jwk()]})


async def _answer(request: web.Request) -> web.Response:
    world, signed = request.app[control.WORLD], await _signed(request)
    service, operation = _addressed(signed)
    world.counts[operation] += 1
    fault = world.faults.take(operation)
    await asyncio.sleep(world.settings.latency_seconds + fault.delay_seconds)
    try:
        response = _Happening(world, service, operation, fault, signed).response()
    except Exception:
        world.bugs += 1
        raise
    if fault.drop and request.transport is not None:
        request.transport.abort()
    return response


async def _signed(request: web.Request) -> Signed:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Signed(f"{request.scheme}://{request.host}{request.raw_path}", headers, await request.read())


def _addressed(signed: Signed) -> tuple[Service, str]:
    if "x-amz-target" in signed.headers:
        prefix, _, operation = signed.headers["x-amz-target"].partition(".")
        known = _BY_TARGET.get(prefix)
        return (known, operation) if known else (license_manager.SERVICE, "")
    return sts.SERVICE, parse_qs(signed.body.decode(errors="replace")).get("Action", [""])[0]


@dataclass(slots=True)
class _Happening:
    """One call on its way: what was asked, and what is to go wrong with it."""

    world: World
    service: Service
    operation: str
    fault: Fault
    signed: Signed

    def response(self) -> web.Response:
        """Do the operation or what the fault wants instead, and note it for the control endpoint."""
        now = self.world.now() + timedelta(seconds=self.fault.clock_offset_seconds)
        record = Record(self.operation, now.isoformat(timespec="seconds"))
        self.world.recent.append(record)
        response = self._instead() or self._real(record, now)
        dropped = f"dropped {self.fault.drop}" if self.fault.drop else ""
        record.outcome = dropped or record.outcome or str(response.status)
        response.headers["Date"] = format_datetime(now.replace(microsecond=0), usegmt=True)
        response.headers.update(self.fault.headers)
        return response

    def _instead(self) -> web.Response | None:
        fault = self.fault
        if fault.drop == "before":
            return web.Response()
        if fault.code or not (fault.status or fault.body):
            return None
        page = "" if fault.body == "empty" else _PAGE
        return web.Response(status=fault.status or 200, text=page, content_type="text/html")

    def _real(self, record: Record, now: datetime) -> web.Response:
        request_id = str(uuid.uuid4())
        try:
            body, status = self._performed(record, now, request_id), 200
        except AwsError as error:
            record.outcome = error.code
            body, status = self.service.wire.error(error, request_id), error.status
        headers = {"Content-Type": self.service.wire.content_type, "x-amzn-RequestId": request_id}
        return web.Response(body=body, status=status, headers=headers)

    def _performed(self, record: Record, now: datetime, request_id: str) -> bytes:
        if self.fault.code:
            raise AwsError(self.fault.code, self.fault.message, self.fault.status or 400, **self.fault.members)
        if self.operation not in self.service.operations:
            raise self.service.wire.refusal("unknown operation", f"Could not find operation {self.operation}")
        caller = self._caller(now)
        record.principal = caller.principal_arn if caller else ""
        params = self.service.read(self.operation, self.signed.body)
        record.principal = record.principal or params.get("RoleArn", "anonymous")
        call = Call(self.world, params, caller, now, self.fault.expired)
        return self.service.write(self.operation, self.service.operations[self.operation](call), request_id)

    def _caller(self, now: datetime) -> AccessKey | None:
        never_signed = self.service.operation(self.operation).auth_type == "none"
        anonymous = "authorization" not in self.signed.headers
        if never_signed or (anonymous and self.operation in self.service.may_be_unsigned):
            return None
        return find_caller(self.world, self.service, self.signed, now)
