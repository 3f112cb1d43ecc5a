"""Handles a call: counts and records it, then delays, drops or replaces the response if a fault requires it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime

from aiohttp import web

from tests.support.emulator.faults import Fault, next_fault
from tests.support.emulator.state import CallRecord, State

STATE = web.AppKey("state", State)
_PAGE = "<!DOCTYPE html><html><head><title>Not AWS</title></head><body><h1>Not AWS</h1></body></html>"


@dataclass(frozen=True, slots=True)
class CallContext:
    """One call: the emulator's state, the fault of this call, its record and its time."""

    state: State
    fault: Fault
    record: CallRecord
    now: datetime


async def handle_call(
    request: web.Request, operation: str, respond: Callable[[CallContext], web.Response]
) -> web.Response:
    """Return the response of `respond`, or the one that the operation's next fault requires."""
    state = request.app[STATE]
    state.counts[operation] += 1
    fault = next_fault(state.faults, operation)
    await asyncio.sleep(state.settings.latency_seconds + fault.delay_seconds)
    now = state.now() + timedelta(seconds=fault.clock_offset_seconds)
    user_agent = request.headers.get("User-Agent", "")
    record = CallRecord(operation, now.isoformat(timespec="seconds"), user_agent=user_agent)
    state.recent_calls.append(record)
    try:
        response = _proxy_response(fault) or respond(CallContext(state, fault, record, now))
    except Exception:
        state.bugs += 1
        raise
    record.outcome = f"dropped {fault.drop}" if fault.drop else record.outcome or str(response.status)
    response.headers["Date"] = format_datetime(now.replace(microsecond=0), usegmt=True)
    response.headers.update(fault.headers)
    if fault.drop and request.transport is not None:
        request.transport.abort()
    return response


def _proxy_response(fault: Fault) -> web.Response | None:
    if fault.drop == "before":
        return web.Response()
    if fault.code or not (fault.status or fault.body):
        return None
    page = "" if fault.body == "empty" else _PAGE
    return web.Response(status=fault.status or 200, text=page, content_type="text/html")
