"""The locks of sources and token Secrets, and what this process has observed in the token Secrets."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from keyturn.api.base import NamespacedName
from keyturn.api.token_request import Request
from keyturn.core.lru import FairDict, LruDict
from keyturn.core.token_family import Intent, TokenFamily, token_fingerprint

_MAX_SEARCHED, _MAX_INTENTS, _MAX_SOURCE_IDS = 10_000, 10_000, 20_000


@dataclass(slots=True)
class TokenLocks:
    """The locks of sources and token Secrets, and what this process has observed in the token Secrets.

    It observes for how long each intent has been unchanged, and to which source each token Secret belongs. `is_dead`
    returns True if the holder of an intent has certainly terminated, so that no wait is needed. `searched` contains the
    sources, by namespace and ID, whose token Secrets from before the start of this process were searched.
    """

    monotonic: Callable[[], float]
    is_dead: Callable[[str], bool] = lambda _: False
    searched: LruDict[NamespacedName, None] = field(default_factory=lambda: LruDict(_MAX_SEARCHED))
    _locks: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = field(default_factory=WeakValueDictionary)
    # Dropping an intent makes the wait for it longer.
    _seen: FairDict[tuple[Intent, float]] = field(default_factory=lambda: FairDict(_MAX_INTENTS))
    _source_ids: FairDict[str] = field(default_factory=lambda: FairDict(_MAX_SOURCE_IDS))
    _claims: dict[NamespacedName, str] = field(default_factory=dict)

    @asynccontextmanager
    async def acquire(self, request: Request) -> AsyncIterator[None]:
        """Wait for the locks of source and token Secret. A request that consumes no token needs none."""
        async with AsyncExitStack() as stack:
            for name in _lock_names(request):
                await stack.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
            try:
                yield
            finally:
                self.end_claim(request)

    def claim(self, request: Request, token: str) -> bool:
        """Claim a new token until its token Secret shows its use; False if another request has claimed it.

        Two sources may contain the same token. The claim ends with the locks, if not before.
        """
        namespace, name = token_secret_name(request)
        claimed = token_fingerprint(token, namespace, "")
        if any(it == claimed for other, it in self._claims.items() if other != (namespace, name)):
            return False
        self._claims[namespace, name] = claimed
        return True

    def end_claim(self, request: Request) -> None:
        """End a claim, if there is one."""
        self._claims.pop(token_secret_name(request), None)

    def is_taken(self, request: Request) -> bool:
        """Whether another request is consuming the token of the same source."""
        locks = [self._locks.get(name) for name in _lock_names(request)]
        return any(lock is not None and lock.locked() for lock in locks)

    def observe(self, name: NamespacedName, intent: Intent | None) -> float:
        """Record the intent that a token Secret contains now, and return how many seconds it has been unchanged.

        The result is infinite if the holder of the intent has terminated.
        """
        seen, since = self._seen.in_namespace(name[0]).get(name[1], (None, 0.0))
        if intent is None:
            self._seen.remove(name)
        elif self.is_dead(intent.holder):
            return math.inf
        elif seen != intent:
            since = self.monotonic()
            self._seen.put(name, (intent, since))
        return self.monotonic() - since if intent else 0

    def observe_family(self, namespace: str, name: str, family: TokenFamily | None) -> None:
        """Record the token family that a Secret contains now, including its intent; None if it contains none.

        What is forgotten is searched again. A Secret that the watch no longer shows may still exist, without our label,
        and the watch does not show when such a Secret is deleted, so their number is limited.
        """
        self.observe((namespace, name), family.intent if family else None)
        if family:
            forgotten = self._source_ids.put((namespace, name), family.source_id)
        else:
            source_id = self._source_ids.remove((namespace, name))
            forgotten = (namespace, source_id) if source_id else None
        if forgotten:
            self.searched.remove(forgotten)

    def source_ids(self, namespace: str) -> Mapping[str, str]:
        """Return the source of each token Secret in a namespace, by the names of the token Secrets."""
        return self._source_ids.in_namespace(namespace)


def _lock_names(request: Request) -> list[tuple[str, ...]]:
    """Return the names of the locks, in the order in which they must be acquired to avoid a deadlock."""
    consumption = request.spec.consumption
    return [(request.namespace, "source", consumption.source_id), token_secret_name(request)] if consumption else []


def token_secret_name(request: Request) -> NamespacedName:
    """Return namespace and name of the token Secret."""
    consumption = request.spec.consumption
    return request.namespace, consumption.secret if consumption else ""
