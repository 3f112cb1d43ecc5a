"""Sends requests to an endpoint over 50 connections, and prints the latencies as JSON.

`python -m tools.bench.load HOST:PORT TOKEN_FILE REQUESTS RATE`. With rate 0, each connection sends its next
request as soon as it has received the response. Otherwise requests are due at fixed times, and latency is counted from
the due time, so a slow response also increases the latency of the requests that wait for it.
"""

import asyncio
import gc
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

_CONNECTIONS = 50
_LIMIT_SECONDS = 300


@dataclass(slots=True)
class Plan:
    """The remaining requests and the results."""

    request: bytes
    left: int
    rate: float
    done: asyncio.Event
    began: float = field(default_factory=time.perf_counter)
    sent: int = 0
    times: list[float] = field(default_factory=list)
    refused: int = 0

    def due(self) -> float:
        """Return when to send the next request."""
        self.sent += 1
        return self.began + self.sent / self.rate if self.rate else time.perf_counter()


class Client(asyncio.Protocol):
    """A connection that sends one request at a time."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._buffer = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._buffer.endswith(b"}"):
            return
        plan = self._plan
        plan.times.append(time.perf_counter() - self._due)
        plan.refused += not self._buffer.startswith(b"HTTP/1.1 200 ")
        self._buffer = b""
        plan.left -= 1
        if plan.left == 0:
            plan.done.set()
        self._next()

    def _next(self) -> None:
        plan = self._plan
        if plan.sent >= plan.left + len(plan.times):
            return
        self._due = plan.due()
        wait = self._due - time.perf_counter()
        if plan.rate and wait > 0:
            asyncio.get_running_loop().call_later(wait, self._wake)
        else:
            self._send()

    def _wake(self) -> None:
        # If the timer of this process is late, that is not latency of the endpoint.
        self._due = time.perf_counter()
        self._send()

    def _send(self) -> None:
        self._transport.write(self._plan.request)


async def main(at: str, token: str, requests: int, rate: float) -> None:
    """Send all requests and print the results."""
    gc.disable()  # a collection would be counted as latency
    request = f"GET / HTTP/1.1\r\nHost: {at}\r\nAccept: */*\r\nUser-Agent: bench\r\nAuthorization: {token}\r\n\r\n"
    plan = Plan(request.encode(), requests, rate, asyncio.Event())
    host, _, port = at.rpartition(":")
    loop = asyncio.get_running_loop()
    for _ in range(_CONNECTIONS):
        await loop.create_connection(lambda: Client(plan), host, int(port))
    async with asyncio.timeout(_LIMIT_SECONDS):
        await plan.done.wait()
    elapsed = time.perf_counter() - plan.began
    times = sorted(plan.times)
    result = {"seconds": elapsed, "p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100]}
    print(json.dumps(result | {"max": times[-1], "refused": plan.refused, "cpu": time.process_time()}))


if __name__ == "__main__":
    address, token_file, number, per_second = sys.argv[1:]
    asyncio.run(main(address, Path(token_file).read_text(), int(number), float(per_second)))
