"""Serves /healthz, /readyz and /metrics to the kubelet and Prometheus."""

from collections.abc import Awaitable, Callable

from keyturn.sidecar.http_server import METHODS, HttpRequest, HttpResponse, LargeBody

_EXPOSITION = b"text/plain; version=0.0.4; charset=utf-8"


class ProbesHandler:
    """Serves the probes and the metrics in the Prometheus text format.

    `not_ready` returns why the process is not ready, or "". `note` returns a line to show while it is ready, or "".
    /healthz checks only that the event loop responds.
    """

    def __init__(
        self,
        not_ready: Callable[[], str],
        metrics: Callable[[], Awaitable[bytes | LargeBody]],
        note: Callable[[], str] = lambda: "",
    ) -> None:
        self._not_ready = not_ready
        self._metrics = metrics
        self._note = note

    async def respond(self, http_request: HttpRequest) -> HttpResponse:
        """Return the response for the path."""
        path = http_request.target.partition(b"?")[0]
        if path not in (b"/healthz", b"/readyz", b"/metrics"):
            return self.error(404, "not found: the paths are /healthz, /readyz and /metrics")
        if http_request.method not in METHODS:
            return self.error(405, "only GET is allowed")
        if path == b"/metrics":
            return HttpResponse(200, await self._metrics(), _EXPOSITION)
        if path == b"/healthz":
            return HttpResponse(200, b"ok\n")
        reason = self._not_ready()
        return self.error(503, reason) if reason else HttpResponse(200, f"ok\n{self._note()}".encode())

    def error(self, status: int, message: str) -> HttpResponse:
        """Return an error as one line of text."""
        return HttpResponse(status, f"{message}\n".encode(errors="backslashreplace"))
