"""The API server, spoken to without the client's models: they cost more than all the rest of a renewal."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio.client import ApiClient

from keyturn.core.errors import LeavingError, RefusedError, UnavailableError

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON = "application/json"
_METADATA = "application/json;as={};g=meta.k8s.io;v=v1"
ONE = _METADATA.format("PartialObjectMetadata")
LIST = _METADATA.format("PartialObjectMetadataList")
_PAUSES = (0.2, 1.0)
_TIMEOUT = 10.0
_OK = range(200, 300)


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """What the API server said: the HTTP status and the decoded body, an object or a Status."""

    status: int
    body: dict[str, Any] = field(repr=False)

    @property
    def message(self) -> str:
        """The message of a Status."""
        return str(self.body.get("message", f"HTTP {self.status}"))

    @property
    def found(self) -> bool:
        """Whether it is not a 404."""
        return self.status != HTTPStatus.NOT_FOUND

    @property
    def refused(self) -> bool:
        """Whether it is an error."""
        return self.status not in _OK


class Kube:
    """A connection to one API server."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._writing = True

    def stop_writing(self) -> None:
        """Refuse every write from now on: the Lease is lost, and another operator writes."""
        self._writing = False

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        kind: str = JSON,
        query: Mapping[str, str] | None = None,
        accept: str = JSON,
    ) -> ApiAnswer:
        """Make a request that may be repeated.

        Answers of 429 and 5xx and none at all are tried three times; then it is UnavailableError. What else is
        refused comes back as an answer: only the caller knows what it means.
        """
        for pause in (*_PAUSES, None):
            try:
                answer = await self._once(method, path, body, kind, query or {}, accept)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                failed = UnavailableError("Unreachable", f"the API server did not answer ({type(error).__name__})")
            else:
                if not _is_passing(answer.status):
                    return answer
                failed = UnavailableError("Unavailable", f"the API server answered HTTP {answer.status}")
            if pause is None:
                raise failed
            await asyncio.sleep(pause)
        raise AssertionError

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Stream the lines of a watch; ends when the server ends it, raises aiohttp's errors when it breaks."""
        response = await self._send("GET", path, None, JSON, query, accept=ONE, timeout=None)
        async with response:
            if response.status not in _OK:
                raise aiohttp.ClientResponseError(response.request_info, (), status=response.status)
            async for line in response.content:
                yield line

    async def _once(
        self, method: str, path: str, body: object, kind: str, query: Mapping[str, str], accept: str
    ) -> ApiAnswer:
        response = await self._send(method, path, body, kind, query, accept=accept, timeout=_TIMEOUT)
        async with response:
            content = await response.read()
        decoded = msgspec.json.decode(content) if response.status in _OK else _status(content)
        return ApiAnswer(response.status, decoded)

    async def _send(  # noqa: PLR0913 - the parts of an HTTP request
        self,
        method: str,
        path: str,
        body: object,
        kind: str,
        query: Mapping[str, str],
        *,
        accept: str,
        timeout: float | None,  # noqa: ASYNC109 - aiohttp's own
    ) -> aiohttp.ClientResponse:
        if method not in ("GET", "HEAD") and not self._writing:
            raise LeavingError("the Lease is lost: another operator writes now")
        headers = {"Accept": accept, "Content-Type": kind, "User-Agent": "keyturn"}
        # The hook behind this re-reads the service account's token, which the kubelet replaces each hour.
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        rest = self._client.rest_client
        if rest.pool_manager is None:
            rest.pool_manager = rest._create_pool_manager()  # noqa: SLF001 - the client makes it on its first call
        response: aiohttp.ClientResponse = await rest.pool_manager.request(
            method,
            f"{self._client.configuration.host}{path}" + (f"?{urlencode(query)}" if query else ""),
            data=msgspec.json.encode(body) if body is not None else None,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=_TIMEOUT),
            proxy=rest.proxy,
        )
        return response


def refusal(answer: ApiAnswer, what: str, secrets: Mapping[str, str]) -> RefusedError | LeavingError:
    """Turn an answer that refuses a write into an error; raises nothing.

    The API server's own words are kept, because a quota or policy explains itself there, but none of `secrets`.
    """
    causes = (answer.body.get("details") or {}).get("causes") or []
    if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return LeavingError("the namespace is terminating")
    message = answer.message
    for value in filter(None, secrets.values()):
        # As it is, and as it was sent, which is what a policy sees and may repeat.
        for shape in (value, base64.b64encode(value.encode()).decode()):
            message = message.replace(shape, "...")
    return RefusedError("WriteRefused", f"the API server refused to write {what}: {message[:500]}")


def _is_passing(status: int) -> bool:
    return status in (401, 429) or status >= 500  # noqa: PLR2004 - HTTP's classes


def _status(content: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {"message": "an answer that is not JSON; is something between us and the API server?"}
