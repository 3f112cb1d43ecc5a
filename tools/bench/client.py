"""The benchmark's own API client, which counts its requests so that they can be subtracted."""

import asyncio
import base64
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

API = "/apis/keyturn.dev/v1alpha1"
MERGE = "application/merge-patch+json"
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_IN_FLIGHT = 16


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

    async def requests(self) -> list[dict[str, Any]]:
        """List all TokenRequests, from the API server's cache."""
        self.sent["LIST tokenrequests"] += 1
        response = await self.request("GET", f"{API}/tokenrequests?resourceVersion=0")
        items: list[dict[str, Any]] = response["items"]
        return items

    async def secret_changes(self) -> AsyncIterator[dict[str, Any]]:
        """Watch the metadata of the operator's Secrets, starting with the existing ones."""
        query = "watch=true&labelSelector=app.kubernetes.io/managed-by=keyturn"
        headers = {"Accept": _METADATA}
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
        connector=aiohttp.TCPConnector(ssl=trusted, limit=_IN_FLIGHT + 1),
    )


async def run_all(coroutines: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Run all coroutines, 16 at a time."""
    queue = iter(coroutines)

    async def worker() -> None:
        for coroutine in queue:
            await coroutine

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_IN_FLIGHT):
            tasks.create_task(worker())
