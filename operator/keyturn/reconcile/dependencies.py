"""What a reconciliation depends on: stores, exchanges, clocks and randomness."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import (
    AbstractContextManager,
    closing,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.token_request import Request
from keyturn.core.issuance import Issuance, TargetSecret
from keyturn.core.pipeline_values import PipelineValues, SourceValues
from keyturn.core.proxies import Proxies
from keyturn.core.service_health import ServiceHealth
from keyturn.core.settings import Settings
from keyturn.core.token_family import StoredToken, TokenFamily
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.context import ExchangeContext, MakeToken, OnRead, ReadValue
from keyturn.exchanges.issuer_http import IssuerClient
from keyturn.exchanges.memory_limiter import MemoryLimiter
from keyturn.exchanges.registry import prepare, reserve
from keyturn.exchanges.transmission import Send
from keyturn.metrics import Metrics
from keyturn.reconcile.token_locks import TokenLocks

_MAX_UNSAVED = 8  # in a namespace
_POLL_SECONDS = 1.0
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Store(Protocol):
    """Reads sources and writes targets. Raises the errors of core.errors."""

    async def read_source(self, request: Request, *, shared: bool = False) -> SourceValues:
        """Read the source, uncached; with `shared`, another request may have read it less than a second ago.

        Raises RefusedError (SourceNotFound) if a Secret or a key does not exist.
        """

    async def read_target(self, request: Request) -> TargetSecret | None:
        """Return the target, from the watch's cache unless the entry is stale; None if it does not exist."""

    async def dry_run(self, request: Request) -> None:
        """Check that the target can be written. Raises RefusedError (TargetConflict, WriteDenied)."""

    async def write(self, request: Request, issuance: Issuance, data: dict[str, str]) -> None:
        """Write data and issuance record in one request, and release targets that the request wrote before."""

    async def apply_metadata(self, request: Request, issuance: Issuance) -> None:
        """Write issuance record, labels, annotations and owner, and leave the data of the target unchanged."""

    async def disown(self, request: Request, target: TargetSecret) -> TargetSecret | None:
        """Remove the owner reference of the request from the target, and return the target as it is then."""

    async def disown_former(self, request: Request) -> None:
        """Remove the owner reference of the request from targets that it no longer names and that still exist."""


class TokenStore(Protocol):
    """Stores tokens that their issuer rotates. Raises the errors of core.errors."""

    async def read(self, request: Request) -> StoredToken | None:
        """Read the token Secret, uncached; None if it does not exist."""

    async def read_family(self, request: Request, name: str) -> TokenFamily | None:
        """Read the token family of another token Secret in the namespace; None if it has none or does not exist."""

    async def find_families(self, request: Request) -> Mapping[str, TokenFamily]:
        """Find the token families in other token Secrets of the source, by their names, without the watch.

        The watch does not show a token Secret whose label another program has replaced.
        """

    async def create(self, request: Request, stored: StoredToken) -> StoredToken:
        """Create the token Secret. Raises UnavailableError if it already exists."""

    async def update(self, request: Request, stored: StoredToken, *, dry_run: bool = False) -> StoredToken:
        """Write a stored token in one request. Raises UnavailableError if the Secret changed meanwhile."""

    async def withdraw(self, request: Request, stored: StoredToken) -> StoredToken:
        """Write a stored token that was just read, without the intent of this process, even if the Lease is lost.

        Like `update`, it fails if the Secret changed meanwhile, so it cannot overwrite what another process wrote.
        """

    def prepare_save(self, request: Request, stored: StoredToken) -> Callable[[], Awaitable[StoredToken]]:
        """Encode a token that was received, and return the call that writes it. The call may be repeated.

        It writes even if the Lease is lost or the Secret changed meanwhile. If the Secret contains a newer token, it
        writes nothing and returns that token. It raises BeingDeletedError or StorageGoneError only if it is certain
        that the namespace or the volume no longer exists.
        """


class Prepare(Protocol):
    """Prepares an exchange, and returns the call that runs it. Both call `on_read` with each value that they read."""

    async def __call__(
        self, request: Request, step: StepSpec, values: PipelineValues, /, *, on_read: OnRead = ...
    ) -> Send: ...


class PendingTokens:
    """The token Secrets whose token is being exchanged, or whose new token is not saved yet."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._pending: dict[str, tuple[asyncio.Task[Any], float]] = {}
        # Why a save failed, if it has to be reported, otherwise "".
        self._failed_saves: dict[str, str] = {}
        self._has_stopped_waiting = False

    def __contains__(self, name: str) -> bool:
        return name in self._pending

    def __len__(self) -> int:
        return len(self._pending)

    def unsaved(self, name: str) -> str | None:
        """Return why the new token of a token Secret cannot be saved, or None if nothing has to be reported."""
        return self._failed_saves.get(name) or None

    def note_failed_save(self, name: str, why: str = "") -> None:
        """Record that an attempt to save the new token of a token Secret failed, and `why` if it has to be reported."""
        self._failed_saves[name] = why or self._failed_saves.get(name, "")

    def has_many_unsaved(self, namespace: str) -> bool:
        """Whether so many saves in a namespace have failed that no other token should be exchanged there.

        Otherwise, anyone who may write token Secrets could exhaust the memory with tokens that cannot be saved.
        """
        return sum(name.startswith(f"{namespace}/") for name in self._failed_saves) >= _MAX_UNSAVED

    async def complete(self, name: str, work: Coroutine[Any, Any, _T]) -> _T:
        """Run `work` for the token Secret `name` to its end. A cancellation of this task takes effect only after that.

        The caller holds the lock of this token Secret. After `stop_waiting`, a task that is cancelled does not wait.
        """
        task = asyncio.create_task(work)
        self._pending[name] = (task, self._monotonic())

        def end(_: object) -> None:
            del self._pending[name]
            self._failed_saves.pop(name, None)
            if not task.cancelled():
                # Retrieved, because asyncio would otherwise log it, and the message of a bug may contain a secret.
                task.exception()

        task.add_done_callback(end)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            while not (task.done() or self._has_stopped_waiting):
                # A second cancellation must not end the wait: asyncio.run would then cancel the save itself.
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({task}, timeout=_POLL_SECONDS)
            raise

    def stop_waiting(self) -> None:
        """From now on, tasks that are cancelled end before their work does."""
        self._has_stopped_waiting = True

    def wait_again(self) -> None:
        """From now on, tasks that are cancelled wait for the end of their work again."""
        self._has_stopped_waiting = False

    async def wait(self) -> None:
        """Wait until no token is pending, however often this task is cancelled."""
        while self._pending:
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task for task, _ in self._pending.values()], timeout=_POLL_SECONDS)

    def log(self) -> None:
        """Log which tokens keep a process from stopping."""
        for name, (_, since) in self._pending.items():
            _log.warning(
                "still replacing the token of Secret %s, for %d s; the process stops once the new token is saved"
                " (SIGKILL, that is kill -9, would lose it)",
                name,
                self._monotonic() - since,
            )


async def _return_at_once(_: str) -> None:
    pass


async def _compute_at_once(_: str, compute: Callable[[], Any]) -> Any:
    return compute()


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The stores, the exchanges, the clocks and `rand` (in [0, 1)).

    `read_value` reads a value that an exchange used again after a refusal; exchanges read their values themselves.
    `reserve` reserves a slot for an exchange, or raises ThrottledError if Keyturn's own limit has been reached.
    `check_lease` raises ThrottledError unless the Lease lasts for that many seconds. `holder` is this process's name.
    `compute` runs a function that may take some milliseconds, in the order of namespaces that CpuLimiter describes.
    `memory_limiter` limits how many large Secrets are written at a time. `free_worker` is called with the uid of a
    request whose reconciliation may take forever, and `regain_worker` before it continues.
    """

    store: Store
    tokens: TokenStore
    read_value: ReadValue
    prepare: Prepare
    now: Callable[[], datetime]
    rand: Callable[[], float]
    token_locks: TokenLocks
    metrics: Metrics
    pending_tokens: PendingTokens
    reserve: Callable[[Request, StepSpec], AbstractContextManager[None]] = lambda _request, _step: nullcontext()
    check_lease: Callable[[float], None] = lambda _: None
    free_worker: Callable[[str], None] = lambda _: None
    regain_worker: Callable[[str], Awaitable[None]] = _return_at_once
    compute: Callable[[str, Callable[[], Any]], Awaitable[Any]] = _compute_at_once
    memory_limiter: MemoryLimiter = field(default_factory=MemoryLimiter)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    holder: str = "keyturn"
    min_interval: timedelta = timedelta(seconds=10)

    def recording(self, on_read: OnRead) -> "Dependencies":
        """Return the same dependencies, but with exchanges that call `on_read` with each value that they read."""
        return replace(self, prepare=functools.partial(self.prepare, on_read=on_read))


@dataclass(frozen=True, slots=True)
class Workers:
    """The number of workers, and the functions of the work queue that a reconciliation needs.

    `free` and `regain` are `free_worker` and `regain_worker` of Dependencies. `resume` is called with the uid of a
    request and the time when an exchange that Keyturn's own limit delayed can run. It returns False if the request does
    not exist.
    """

    number: int
    free: Callable[[str], None] = lambda _: None
    regain: Callable[[str], Awaitable[None]] = _return_at_once
    resume: Callable[[str, datetime], bool] = lambda _uid, _now: True


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of sources, targets and tokens. `read_value` and `make_token` are passed to ExchangeContext."""

    targets: Store
    tokens: TokenStore
    read_value: ReadValue
    make_token: MakeToken


@contextmanager
def _exchange_context(  # noqa: PLR0913 - each is a dependency
    settings: Settings,
    clock: Callable[[], datetime],
    stores: Stores,
    metrics: Metrics,
    health: ServiceHealth,
    *,
    workers: Workers,
    proxies: Proxies,
) -> Iterator[ExchangeContext]:
    # While reconciliations are slow, the work queue has up to four times as many workers. IssuerClient needs fewer
    # threads for each of them, because it also limits the share of each namespace.
    threads, ambient = 4 * workers.number, bool(settings.sources.ambient)
    aws = Aws(settings.aws, metrics, clock, health, threads, allow_ambient=ambient, proxies=proxies)
    issuers = IssuerClient(
        settings.issuers, metrics, clock, health, proxies=proxies, workers=2 * workers.number, resume=workers.resume
    )
    with closing(aws), closing(issuers):
        yield ExchangeContext(aws, issuers, stores.read_value, stores.make_token, settings.sources)


@contextmanager
def build_dependencies(  # noqa: PLR0913 - the composition root: each is a dependency
    settings: Settings,
    clock: Callable[[], datetime],
    rand: Callable[[], float],
    stores: Stores,
    metrics: Metrics,
    service_health: ServiceHealth,
    *,
    workers: Workers,
    token_locks: TokenLocks,
    pending_tokens: PendingTokens,
    holder: str,
    proxies: Proxies,
    check_lease: Callable[[float], None] = lambda _: None,
) -> Iterator[Dependencies]:
    """Yield the dependencies, and close the AWS clients and the threads at the end."""
    min_interval = timedelta(seconds=settings.renewal.min_interval_seconds)
    with _exchange_context(
        settings, clock, stores, metrics, service_health, workers=workers, proxies=proxies
    ) as context:
        yield Dependencies(
            store=stores.targets,
            tokens=stores.tokens,
            read_value=stores.read_value,
            prepare=functools.partial(prepare, context),
            reserve=functools.partial(reserve, context, min_interval=min_interval),
            now=clock,
            rand=rand,
            metrics=metrics,
            min_interval=min_interval,
            token_locks=token_locks,
            pending_tokens=pending_tokens,
            holder=holder,
            check_lease=check_lease,
            free_worker=workers.free,
            regain_worker=workers.regain,
            compute=context.cpu_limiter.run,
        )
