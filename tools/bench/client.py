"""Our own hand in the cluster, by bare aiohttp: what it asks is counted, so that it can be left out."""

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
    """An administrator, or whoever the token is of."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self.sent: Counter[str] = Counter()

    @classmethod
    @asynccontextmanager
    async def of(cls, kubeconfig: Path) -> AsyncIterator["Client"]:
        """Speak to the API server of a kubeconfig, as its user."""
        async with session(kubeconfig) as http:
            yield cls(http)

    async def ask(self, method: str, path: str, body: object = None, kind: str = "application/json") -> Any:
        """Make a request; what is refused raises."""
        async with self._http.request(method, path, json=body, headers={"Content-Type": kind}) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def requests(self) -> list[dict[str, Any]]:
        """List all TokenRequests, from the API server's cache."""
        self.sent["LIST tokenrequests"] += 1
        found = await self.ask("GET", f"{API}/tokenrequests?resourceVersion=0")
        items: list[dict[str, Any]] = found["items"]
        return items

    async def secret_changes(self) -> AsyncIterator[dict[str, Any]]:
        """Follow the metadata of the Secrets that the operator keeps, those that are there first."""
        query = "watch=true&labelSelector=app.kubernetes.io/managed-by=keyturn"
        headers = {"Accept": _METADATA}
        async with self._http.get(f"/api/v1/secrets?{query}", headers=headers, timeout=_ENDLESS) as answer:
            async for line in answer.content:
                yield json.loads(line)["object"]["metadata"]


_ENDLESS = aiohttp.ClientTimeout(total=None)


def session(kubeconfig: Path) -> aiohttp.ClientSession:
    """Make the connections to the API server of a kubeconfig."""
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


async def all_of(work: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Do it all, 16 at a time."""
    queue = iter(work)

    async def worker() -> None:
        for one in queue:
            await one

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_IN_FLIGHT):
            tasks.create_task(worker())
