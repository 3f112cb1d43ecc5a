"""The benchmark's own API client, which counts its requests so that they can be subtracted."""

import asyncio
import base64
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp

API = "/apis/keyturn.dev/v1alpha1"
JSON = "application/json"
MERGE = "application/merge-patch+json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
IN_FLIGHT = 16
_PAGE = 500


class ApiRequest(NamedTuple):
    """A request to the API server."""

    method: str
    path: str
    body: object = None
    content_type: str = JSON
    accept: str = JSON


class Client:
    """An API client with the identity of a kubeconfig."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self.sent: Counter[str] = Counter()

    @classmethod
    @asynccontextmanager
    async def connect(cls, kubeconfig: Path) -> AsyncIterator["Client"]:
        """Connect to the API server of a kubeconfig."""
        async with session(kubeconfig) as http:
            yield cls(http)

    async def request(self, method: str, path: str, body: object = None, kind: str = "application/json") -> Any:
        """Send a request and return the decoded response. Raises aiohttp.ClientResponseError for an error status."""
        async with self._http.request(method, path, json=body, headers={"Content-Type": kind}) as response:
            response.raise_for_status()
            return await response.json()

    async def send(self, request: ApiRequest) -> None:
        """Send a request and read the response. Raises aiohttp.ClientResponseError for an error status."""
        headers = {"Content-Type": request.content_type, "Accept": request.accept}
        async with self._http.request(request.method, request.path, json=request.body, headers=headers) as response:
            await response.read()
            response.raise_for_status()

    async def requests(self) -> list[dict[str, Any]]:
        """List all TokenRequests, from the API server's cache."""
        self.sent["LIST tokenrequests"] += 1
        response = await self.request("GET", f"{API}/tokenrequests?resourceVersion=0")
        items: list[dict[str, Any]] = response["items"]
        return items

    async def request_pages(self) -> AsyncIterator[list[dict[str, Any]]]:
        """List all TokenRequests in pages, from etcd."""
        path = f"{API}/tokenrequests?limit={_PAGE}"
        remaining = ""
        while True:
            self.sent["LIST tokenrequests"] += 1
            page = await self.request("GET", path + (f"&continue={quote(remaining)}" if remaining else ""))
            yield page["items"]
            remaining = page["metadata"].get("continue", "")
            if not remaining:
                return

    async def secret_changes(self) -> AsyncIterator[dict[str, Any]]:
        """Watch the metadata of the operator's Secrets, starting with the existing ones."""
        query = "watch=true&labelSelector=app.kubernetes.io/managed-by=keyturn"
        headers = {"Accept": METADATA}
        async with self._http.get(f"/api/v1/secrets?{query}", headers=headers, timeout=_NO_TIMEOUT) as response:
            async for line in response.content:
                yield json.loads(line)["object"]["metadata"]


_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)


def session(kubeconfig: Path) -> aiohttp.ClientSession:
    """Return an HTTP session for the API server of a kubeconfig."""
    config = json.loads(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    if "certificate-authority" in cluster:
        trusted = ssl.create_default_context(cafile=cluster["certificate-authority"])
    else:
        authority = cluster["certificate-authority-data"]
        trusted = ssl.create_default_context(cadata=base64.b64decode(authority).decode())
    return aiohttp.ClientSession(
        cluster["server"],
        headers={"Authorization": f"Bearer {user['token']}"},
        connector=aiohttp.TCPConnector(ssl=trusted, limit=IN_FLIGHT + 1),
    )


async def run_all(coroutines: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Run all coroutines, 16 at a time."""
    queue = iter(coroutines)

    async def worker() -> None:
        for coroutine in queue:
            await coroutine

    async with asyncio.TaskGroup() as tasks:
        for _ in range(IN_FLIGHT):
            tasks.create_task(worker())
