"""A scope that tests decide about, and installations with real scopes against an in-memory API server."""

import asyncio
import copy
from collections import ChainMap
from collections.abc import Sequence
from datetime import datetime, timedelta

from keyturn.controller.api_client import ApiResponse
from keyturn.controller.cluster_scope import ClusterScope
from keyturn.controller.leader_election import Lease
from keyturn.controller.scope import NamespacedScope, Scope
from keyturn.metrics import Metrics
from tests.support.api_server import ApiServer
from tests.support.dependencies import NOW


class FakeScope(Scope):
    """All namespaces are free, except those in `others`: each with its installation. `refusal` is why claims fail."""

    def __init__(self) -> None:
        super().__init__(Metrics(), 120, 60)
        self.others: dict[str, str] = {}
        self.refusal = ""

    def conflicts(self) -> dict[str, str]:
        return self.others

    def holder(self, namespace: str) -> str:
        return self.others.get(namespace, "")

    def is_held(self, namespace: str) -> bool:
        return namespace not in self.others

    async def claim(self, namespace: str) -> str:
        return self.conflict(namespace) or self.refusal

    def leases(self) -> Sequence[Lease]:
        return []

    def problem(self) -> str:
        return ""

    async def _check(self) -> bool:
        return True

    async def set(self, **others: str) -> None:
        """Let other installations hold these namespaces, and no others."""
        self.others = others
        await self.check()

    async def release(self) -> None:
        """Release nothing."""


class Installations:
    """Installations in one cluster, in virtual time: each checks its scope until it is killed or stopped."""

    def __init__(self, server: ApiServer | None = None) -> None:
        self.server = server or ApiServer()
        self.allow_cluster_wide(allowed=True)
        self._running: dict[Scope, asyncio.Task[None]] = {}

    def allow_cluster_wide(self, *, allowed: bool) -> None:
        """Decide what the API server says about the rights of every ServiceAccount."""
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        self.server.responses[f"POST {path}"] = ApiResponse(201, {"status": {"allowed": allowed}})

    async def start(self, name: str, *namespaces: str) -> Scope:
        """Start an installation in a namespace of its own; it watches `namespaces`, or all of them."""
        clock, now = asyncio.get_running_loop().time, self.now
        scope: Scope
        if namespaces:
            scope = NamespacedScope(self.server, namespaces, name, now, Metrics(), monotonic=clock)
        else:
            api = copy.copy(self.server)
            user = {"status": {"userInfo": {"username": f"system:serviceaccount:{name}:keyturn"}}}
            path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
            api.responses = ChainMap(self.server.responses, {f"POST {path}": ApiResponse(201, user)})
            scope = ClusterScope(api, name, name, now, Metrics(), monotonic=clock)
        await scope.check()
        self._running[scope] = asyncio.ensure_future(scope.run())
        return scope

    def now(self) -> datetime:
        return NOW + timedelta(seconds=asyncio.get_running_loop().time())

    def kill(self, scope: Scope) -> None:
        """End an installation without a release."""
        self._running.pop(scope).cancel()

    async def stop(self, scope: Scope) -> None:
        """End an installation as SIGTERM does."""
        self.kill(scope)
        await scope.release()

    async def workers(self, namespace: str, *scopes: Scope) -> list[Scope]:
        """Return which installations may start a renewal in a namespace now."""
        return [scope for scope in scopes if not await scope.claim(namespace)]

    async def seconds_until(self, namespace: str, scope: Scope, *others: Scope) -> float:
        """Return how long it takes until `scope` may start a renewal; meanwhile at most one installation may write."""
        clock = asyncio.get_running_loop().time
        start = clock()
        while await scope.claim(namespace):
            assert sum(it.is_held(namespace) for it in (scope, *others)) <= 1
            assert clock() - start < 3600
            await asyncio.sleep(1)
        assert not any(it.is_held(namespace) for it in others)
        return clock() - start
