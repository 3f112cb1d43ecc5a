"""One call on its way: counted, noted, delayed, cut off or answered by somebody else, as a fault wants it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime

from aiohttp import web

from tests.support.emulator.faults import Fault
from tests.support.emulator.state import Record, State

WORLD = web.AppKey("world", State)
_PAGE = "<!DOCTYPE html><html><head><title>Not AWS</title></head><body><h1>Not AWS</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Happening:
    """One call at one moment: what is to go wrong with it, and what is noted of it."""

    world: State
    fault: Fault
    record: Record
    now: datetime


async def happen(
    request: web.Request, operation: str, perform: Callable[[Happening], web.Response]
) -> web.Response:
    """Let `perform` answer the request, or what the fault wants instead."""
    world = request.app[WORLD]
    world.counts[operation] += 1
    fault = world.faults.take(operation)
    await asyncio.sleep(world.settings.latency_seconds + fault.delay_seconds)
    try:
        response = _response(_noted(world, operation, fault), perform)
    except Exception:
        world.bugs += 1
        raise
    if fault.drop and request.transport is not None:
        request.transport.abort()
    return response


def _noted(world: State, operation: str, fault: Fault) -> Happening:
    now = world.now() + timedelta(seconds=fault.clock_offset_seconds)
    record = Record(operation, now.isoformat(timespec="seconds"))
    world.recent.append(record)
    return Happening(world, fault, record, now)


def _response(happening: Happening, perform: Callable[[Happening], web.Response]) -> web.Response:
    fault, record = happening.fault, happening.record
    response = _instead(fault) or perform(happening)
    dropped = f"dropped {fault.drop}" if fault.drop else ""
    record.outcome = dropped or record.outcome or str(response.status)
    response.headers["Date"] = format_datetime(happening.now.replace(microsecond=0), usegmt=True)
    response.headers.update(fault.headers)
    return response


def _instead(fault: Fault) -> web.Response | None:
    if fault.drop == "before":
        return web.Response()
    if fault.code or not (fault.status or fault.body):
        return None
    page = "" if fault.body == "empty" else _PAGE
    return web.Response(status=fault.status or 200, text=page, content_type="text/html")
