"""The Secrets of a cluster: the operator's stores against an API server in memory, and the changes that users make."""

import base64
import functools
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from keyturn.api.token_request import Request
from keyturn.controller.secret_store import SecretStore
from keyturn.controller.secret_watch import SecretMeta
from keyturn.core.issuance import MANAGED_BY, Issuance
from keyturn.core.token_family import TOKEN_FAMILY_ANNOTATION, StoredToken, read_family
from tests.support.api_server import ApiServer
from tests.support.issuance_keys import KEYS
from tests.support.rotation import Checkpoint, no_checkpoint

_WRITES = ("create", "update", "withdraw", "save", "write")


class ObservedStore:
    """Passes calls on to a store, and awaits `checkpoint` before each call and after those that write.

    `calls` counts the calls by name, and the call of a name raises the next of its `failures`. An `update` with dry_run
    has the name dry_run.
    """

    def __init__(self) -> None:
        self.store: Any = None
        self.checkpoint: Checkpoint = no_checkpoint
        self.calls: Counter[str] = Counter()
        self.failures: dict[str, list[Exception]] = {}

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **options: Any) -> Any:
            name = "dry_run" if options.get("dry_run") else method
            return await self._call(name, functools.partial(getattr(self.store, method), *args, **options))

        return call

    def prepare_save(self, *args: Any) -> Callable[[], Awaitable[Any]]:
        """Return the save; it is the call that counts."""
        return functools.partial(self._call, "save", self.store.prepare_save(*args))

    async def _call(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        await self.checkpoint(f"before {name}")
        self.calls[name] += 1
        if self.failures.get(name):
            raise self.failures[name].pop(0)
        result = await call()
        if name in _WRITES:
            await self.checkpoint(f"after {name}")
        return result


class ClusterSecrets:
    """The Secrets of the namespace billing, and the operator's store with a watch that has no delay."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.server = ApiServer()
        self.keys = KEYS
        self._monotonic = monotonic
        self.restart()

    def restart(self) -> None:
        """Start a new store, whose watch lists the managed Secrets."""
        self.store = SecretStore(self.server, self.keys, self._monotonic)
        for name in self.names():
            self._observe(self.meta(name))

    def create_request(self, request: Request) -> None:
        """Create the TokenRequest, in place of an earlier one with the same name."""
        path = f"/apis/keyturn.dev/v1alpha1/namespaces/{request.namespace}/tokenrequests/{request.name}"
        self.server.objects[path] = {"metadata": {"name": request.name, "uid": request.uid, "resourceVersion": "1"}}

    def put(self, name: str, *, data: dict[str, str] | None = None, **metadata: Any) -> None:
        """Create a Secret or change some of its keys, labels and annotations."""
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in (data or {}).items()}
        self._observe(self.server.put(_path(name), data=encoded, metadata=metadata))

    def delete(self, name: str) -> None:
        if name in self.names():
            meta = self.meta(name)
            self.server.delete(_path(name))
            self._observe(meta, alive=False)

    def names(self) -> set[str]:
        return {path.removeprefix(_path("")) for path in self.server.objects if path.startswith(_path(""))}

    def data(self, name: str) -> dict[str, str]:
        return self.server.data(_path(name))

    def meta(self, name: str) -> SecretMeta:
        return self.server.meta(_path(name))

    def issuance(self, name: str) -> Issuance:
        """Return the verified record of a Secret. Raises LookupError if there is none."""
        issuance, _ = self.keys.read(self.meta(name).annotations, "billing", name)
        if issuance is None:
            raise LookupError(name)
        return issuance

    def stored_token(self, name: str) -> StoredToken:
        """Return the token in a token Secret. Raises KeyError if the Secret does not exist."""
        family = read_family(self.meta(name).annotations.get(TOKEN_FAMILY_ANNOTATION, ""))
        [value] = [value for key, value in self.data(name).items() if not key.endswith(".previous")]
        return StoredToken(value, family)

    def _observe(self, meta: SecretMeta, *, alive: bool = True) -> None:
        self.store.sources.forget(meta.namespace, meta.name)
        if meta.labels.get(MANAGED_BY) == "keyturn":
            self.store.cache.observe(meta, alive)


def _path(name: str) -> str:
    return f"/api/v1/namespaces/billing/secrets/{name}"
