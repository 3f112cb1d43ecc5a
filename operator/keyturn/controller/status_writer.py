"""Writes the status of a TokenRequest, and Events about it."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any

import msgspec

from keyturn.api.base import GROUP
from keyturn.api.status import Condition, Status, read_status
from keyturn.api.times import rfc3339
from keyturn.api.token_request import KIND, VERSION, InvalidRequest, Request
from keyturn.controller.api_client import MERGE, ApiClient, token_request_path
from keyturn.core.errors import BeingDeletedError, KeyturnError, LeaseLostError, RefusedError, UnavailableError
from keyturn.core.status import Event

_log = logging.getLogger(__name__)
_EVENT_SECONDS, _PAUSE_SECONDS = 5, 30
_LONGEST_MESSAGE = 1024  # the API server refuses a longer one in a core/v1 Event


class StatusWriter:
    """Writes status and Events, each in one request.

    With `troubleshooting_url`, messages about problems end with the section about their reason. Only the written
    messages do, so that nothing else depends on the setting.
    """

    def __init__(
        self, api: ApiClient, now: Callable[[], datetime], instance: str, troubleshooting_url: str | None = None
    ) -> None:
        self._api = api
        self._now = now
        self._instance = instance
        self._url = troubleshooting_url
        self._no_events_until = 0.0

    def read(self, body: Mapping[str, Any]) -> Status:
        """Read the status of a TokenRequest, without the links that `write_status` adds."""
        return _with_messages(read_status(body), lambda it: it.message.removesuffix(self._link(it.reason)))

    async def fetch(self, request: Request | InvalidRequest) -> tuple[Status, str]:
        """Return the status that the API server has now, and the resourceVersion of the TokenRequest.

        Raises BeingDeletedError if it does not exist.
        """
        what = f"TokenRequest {request.namespaced_name}"
        response = await self._api.request("GET", token_request_path(request.namespace, request.name))
        if not response.is_found:
            raise BeingDeletedError(f"{what} was deleted")
        if response.is_error:
            raise UnavailableError("Unavailable", f"{what}: {response.message}")
        return self.read(response.body), response.body["metadata"].get("resourceVersion", "")

    async def write_status(
        self, namespace: str, name: str, uid: str, status: Status, *, version: str | None = None
    ) -> None:
        """Patch the status. With `version`, only if the TokenRequest still has this resourceVersion.

        Raises BeingDeletedError if the TokenRequest does not exist, and UnavailableError if its version differs.
        """
        status = _with_messages(status, lambda it: it.message + (self._link(it.reason) if _is_problem(it) else ""))
        fields = {field: getattr(status, attribute) for field, attribute in _FIELDS}
        # A field without a value must be null: otherwise a merge patch does not remove it.
        metadata = {"uid": uid} | ({"resourceVersion": version} if version else {})
        body = {"metadata": metadata, "status": msgspec.to_builtins(fields)}
        response = await self._api.request("PATCH", f"{token_request_path(namespace, name)}/status", body, kind=MERGE)
        if not response.is_found:
            raise BeingDeletedError(f"TokenRequest {namespace}/{name} was deleted")
        if response.status == HTTPStatus.CONFLICT:
            # Another object has the name now, which the watch will report, or there are too many concurrent writes.
            raise UnavailableError("Unavailable", f"the status of {namespace}/{name}: {response.message}")
        if response.is_error:
            raise RefusedError("WriteDenied", f"the status of {namespace}/{name}: {response.message}")

    async def post_event(self, request: Request | InvalidRequest, event: Event) -> None:
        """Post an Event; a failure is only logged.

        The worker of the TokenRequest waits for it. So there is a single attempt: while the API server limits the rate
        of Events, more of them would keep workers busy. If the API server takes long, for example because the etcd for
        Events is down, no Event is posted for a while: workers that wait for Events would delay renewals by minutes.
        """
        loop = asyncio.get_running_loop()
        if loop.time() < self._no_events_until:
            return
        now, link = rfc3339(self._now()), self._link(event.reason) if event.type == "Warning" else ""
        involved = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "namespace": request.namespace,
                 "name": request.name, "uid": request.uid}  # fmt: skip
        body = {
            "metadata": {"generateName": f"{request.name[:200]}.", "namespace": request.namespace},
            "involvedObject": involved,
            "type": event.type,
            "reason": event.reason,
            "message": event.message[: _LONGEST_MESSAGE - len(link)] + link,
            "source": {"component": "keyturn"},
            "reportingComponent": GROUP,
            "reportingInstance": self._instance,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            async with asyncio.timeout(_EVENT_SECONDS):
                path = f"/api/v1/namespaces/{request.namespace}/events"
                await self._api.request("POST", path, body, should_retry=False)
        except TimeoutError:
            self._no_events_until = loop.time() + _PAUSE_SECONDS
            _log.warning(
                "an Event was not posted within %s s; none is posted in the next %s s", _EVENT_SECONDS, _PAUSE_SECONDS
            )
        except (KeyturnError, LeaseLostError) as error:
            _log.warning("an Event was not posted: %s", error)

    def _link(self, reason: str) -> str:
        return f"; see {self._url}#{reason.lower()}" if self._url else ""


def _is_problem(condition: Condition) -> bool:
    return condition.reason != "Pending" and (condition.status == "True") == (condition.type == "Stalled")


def _with_messages(status: Status, message: Callable[[Condition], str]) -> Status:
    conditions = tuple(msgspec.structs.replace(it, message=message(it)) for it in status.conditions)
    return msgspec.structs.replace(status, conditions=conditions)


_FIELDS = tuple(zip(Status.__struct_encode_fields__, Status.__struct_fields__, strict=True))
