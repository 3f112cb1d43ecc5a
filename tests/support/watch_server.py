"""An API server that returns planned lists and watches to a SecretWatch, in virtual time."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from keyturn.controller.api_client import ApiClient
from keyturn.controller.response_body import LIST, MAX_BYTES, Page
from keyturn.controller.secret_watch import SecretMeta, SecretWatch
from keyturn.controller.streams import Boundary
from keyturn.metrics import Metrics
from tests.support.virtual_time import VirtualTime

PATH = "/api/v1/secrets"
Round = list[bytes | Exception]


def item(name: str, version: int = 1) -> dict[str, Any]:
    """Return the metadata of a Secret as an item of a list."""
    metadata = {"name": name, "namespace": "billing", "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata}


def line(kind: str, name: str = "", version: int = 1, **more: Any) -> bytes:
    return json.dumps({"type": kind, "object": (item(name, version) if name else {}) | more}).encode()


def listed(*names: str, version: int = 1, remaining: str = "") -> Page:
    items = tuple(msgspec.Raw(json.dumps(item(name)).encode()) for name in names)
    return Page(items, str(version), remaining)


class WatchServer(ApiClient):
    """Returns lists and watches in turn; after the last watch, it sends nothing more.

    `current` is the resourceVersion that a check returns. Without it, nothing was lost.
    """

    def __init__(
        self, lists: Sequence[Page | Exception | None], watches: list[Round], current: list[int] | None = None
    ) -> None:
        self._lists = list(lists)
        self._watches = watches
        self._current = current or []
        self.queries: list[Mapping[str, str]] = []
        self.times: list[float] = []
        self.finished = asyncio.Event()

    async def list_page(
        self,
        _path: str,
        query: Mapping[str, str],
        _limit: int = MAX_BYTES,
        *,
        accept: str = LIST,
        until_handled: AsyncExitStack | None = None,  # noqa: ARG002 - no page is large
    ) -> Page | None:
        assert accept == LIST
        if "labelSelector" not in query:
            return listed(version=self._current.pop(0) if self._current else 2**60)
        self.queries.append(query)
        response = self._lists.pop(0)
        if isinstance(response, Exception):
            raise response
        return response

    async def watch(self, _path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        self.queries.append(query)
        self.times.append(asyncio.get_running_loop().time())
        if not self._watches:
            self.finished.set()
            await asyncio.Event().wait()
        for one in self._watches.pop(0):
            if isinstance(one, Exception):
                raise one
            yield one


def events(
    server: WatchServer, metrics: Metrics | None = None, *, broken: str = "", restored_at: str = ""
) -> list[str]:
    """Watch until the server sends nothing more; return "+name" for each object and "-name" for each deletion.

    The callback raises for the object `broken`. At the object `restored_at`, a Lease shows that etcd was restored.
    """
    reported: list[str] = []

    def on_secret(meta: SecretMeta, alive: bool) -> None:  # noqa: FBT001 - the signature of the watch
        if meta.name == broken:
            raise OverflowError
        reported.append(f"{'+' if alive else '-'}{meta.name}")
        if alive and meta.name == restored_at:
            watch.on_restored()

    boundary = Boundary("secret_watch", f"the watch of {PATH}", metrics or Metrics())
    watch = SecretWatch(server, PATH, "a=b", on_secret, boundary)

    async def run() -> None:
        async with asyncio.timeout(100_000), asyncio.TaskGroup() as tasks:
            task = tasks.create_task(watch.run())
            await server.finished.wait()
            task.cancel()
        assert not watch.unlisted()

    loop = VirtualTime()
    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
    return reported
