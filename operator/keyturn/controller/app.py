"""The operator: builds the watches, the work queue, the controller and the writers, and runs them."""

import asyncio
import contextlib
import functools
import itertools
import logging
import math
import os
import socket
import time
from asyncio import sslproto
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kubernetes.aio import config as kube_config
from kubernetes.aio.client import ApiClient as KubernetesClient
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, incluster_config
from yaml import YAMLError

from keyturn.api.source import SOURCE_LABEL
from keyturn.api.token_request import PLURAL
from keyturn.controller import work_queue as work_queues
from keyturn.controller.api_client import ApiClient, secrets_path
from keyturn.controller.cluster_scope import ClusterScope
from keyturn.controller.controller import Controller
from keyturn.controller.health import serve
from keyturn.controller.issuance_key import IssuanceKeySecret
from keyturn.controller.kopf_adapter import watch_requests
from keyturn.controller.leader_election import Lease, lead
from keyturn.controller.request_responses import RequestResponses
from keyturn.controller.scope import HOLD_SECONDS, ConflictReporter, NamespacedScope, Scope
from keyturn.controller.secret_store import SecretStore
from keyturn.controller.secret_watch import SecretWatch
from keyturn.controller.source_reader import ServiceAccounts, read_value
from keyturn.controller.status_writer import StatusWriter
from keyturn.controller.streams import Boundary
from keyturn.controller.token_file import TokenFile
from keyturn.controller.token_secrets import TokenSecrets
from keyturn.controller.work_queue import WorkQueue
from keyturn.core.errors import LeaseLostError
from keyturn.core.issuance import OUR_LABEL
from keyturn.core.proxies import NO_PROXIES, Proxies, parse_proxy
from keyturn.core.service_health import ServiceHealth
from keyturn.core.settings import Settings
from keyturn.metrics import Metrics
from keyturn.reconcile.dependencies import PendingTokens, Stores, Workers, build_dependencies
from keyturn.reconcile.token_locks import TokenLocks

_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_log = logging.getLogger(__name__)


class NoClusterError(Exception):
    """There is neither a service account nor a usable kubeconfig."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command-line options, and the proxies of the environment. Without `namespaces`, all of them are watched."""

    kubeconfig: str | None
    namespaces: tuple[str, ...]
    http_bind_address: str
    concurrent: int
    leader_elect: bool
    lease_name: str
    lease_namespace: str | None
    issuance_key_secret: str | None = None
    watch_secrets: bool = True
    proxies: Proxies = NO_PROXIES

    @property
    def key_secret(self) -> str:
        """The name of the Secret with the issuance key."""
        return self.issuance_key_secret or f"{self.lease_name}-issuance-key"

    @property
    def election_namespace(self) -> str:
        """The namespace of the Lease: that of the option, or the operator's own."""
        if self.lease_namespace:
            return self.lease_namespace
        return _OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.exists() else "default"


class Operator:
    """The composition root: the operator in one cluster. `handle_signals` registers a handler for each signal."""

    def __init__(
        self,
        options: Options,
        settings: Settings,
        now: Callable[[], datetime],
        rand: Callable[[], float],
        handle_signals: Callable[[Callable[[], object]], None],
        *,
        hold_seconds: int = HOLD_SECONDS,
    ) -> None:
        self._options = options
        self._settings = settings
        self._now = now
        self._rand = rand
        self._hold_seconds = hold_seconds
        self._handle_signals = handle_signals
        self._metrics = Metrics()
        self._service_health = ServiceHealth()
        self._lists: list[Callable[[], str]] = []
        self._on_restored: list[Callable[[], None]] = []
        self._instance = f"{socket.gethostname()}-{os.getpid()}"
        self._pending_tokens = PendingTokens(time.monotonic)
        self._is_stopping = False

    async def run(self) -> None:
        """Run until a signal.

        Raises NoClusterError if there is no cluster, BindError if the port cannot be opened, and LeaseLostError if
        another operator took over.
        """
        options = self._options
        configuration = await load_configuration(options.kubeconfig, options.proxies)
        async with KubernetesClient(configuration) as client:
            electing = ApiClient(client, self._service_health)
            boundary = Boundary("lease", "keeping the Lease", self._metrics)
            lease = Lease(electing, options.election_namespace, options.lease_name, self._instance, self._now, boundary)
            scope = self._scope(electing)
            for each in (lease, *scope.leases()):
                each.on_restored = self._list_again
            self._metrics.leader.set(0)
            if not options.leader_elect:
                lease.held_until = math.inf
                lease.responded.set()

            def may_write(path: str) -> bool:
                return lease.is_held() and scope.may_write(path)

            # Checked at each write instead of set by an event: a process that was frozen would write before the event.
            api = ApiClient(client, self._service_health, may_write)
            # Outside its scope, the leader may write only the issuance key, and reports about requests that it skips.
            leading = ApiClient(client, self._service_health, lambda _: lease.is_held())
            key_secret = IssuanceKeySecret(leading, options.election_namespace, options.key_secret)
            conflict_reporter = ConflictReporter(scope, self._status_writer(leading))
            work = functools.partial(self._work, api, lease, conflict_reporter, configuration, key_secret)
            not_ready = functools.partial(self._not_ready, lease, scope, key_secret)
            boundary = Boundary("probes", "serving probes", self._metrics)
            async with serve(options.http_bind_address, self._metrics, not_ready, boundary, scope.note):
                await self._run_until_signal(self._start(lease, key_secret, work))

    async def _run_until_signal(self, work: Coroutine[None, None, None]) -> None:
        """Run `work` until it ends or a signal cancels it, and then until no token is pending."""
        task = asyncio.ensure_future(work)
        self._on_signal(task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            # Without a signal, this is a bug, and the exit code must not be 0.
            if not self._is_stopping:
                raise
        finally:
            await self._pending_tokens.wait()

    def _list_again(self) -> None:
        for notify in self._on_restored:
            notify()

    def _scope(self, api: ApiClient) -> Scope:
        options = self._options
        place = options.election_namespace
        identity = f"{place}/{options.lease_name}"
        if options.namespaces:
            return NamespacedScope(
                api, options.namespaces, identity, self._now, self._metrics, hold_seconds=self._hold_seconds
            )
        return ClusterScope(api, place, identity, self._now, self._metrics, hold_seconds=self._hold_seconds)

    def _status_writer(self, api: ApiClient) -> StatusWriter:
        return StatusWriter(api, self._now, self._instance, self._settings.docs.troubleshooting_url)

    def _on_signal(self, stop: Callable[[], object]) -> None:
        """From now on, call `stop` at the first signal of the process, and log at each signal what delays the exit."""

        def handle() -> None:
            self._pending_tokens.log()
            # A second cancellation would interrupt the release of the Lease.
            if not self._is_stopping:
                self._is_stopping = True
                stop()

        self._handle_signals(handle)

    def _not_ready(self, lease: Lease, scope: Scope, key_secret: IssuanceKeySecret) -> str:
        """Return why the process is not ready, or "". A leader becomes ready when all first lists have succeeded."""
        if key_secret.problem:
            return key_secret.problem
        if not lease.responded.is_set():
            return "the API server has not responded yet"
        return "; ".join(problem for each in (lambda: lease.denied, scope.problem, *self._lists) if (problem := each()))

    async def _start(
        self, lease: Lease, key_secret: IssuanceKeySecret, work: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        await key_secret.wait()
        while self._options.leader_elect:
            try:
                return await lead(lease, work, self._pending_tokens.stop_waiting)
            except LeaseLostError as error:
                # Another process must start with an empty memory, but this one has tokens that are not saved yet.
                if self._is_stopping or not self._pending_tokens:
                    raise
                _log.error("%s; standing by, because new tokens are not saved yet", error)
                self._stand_by()
        return await work()

    def _stand_by(self) -> None:
        self._pending_tokens.wait_again()
        self._metrics.leader.set(0)
        self._metrics.export(tuple, dict)
        self._lists = []
        if task := asyncio.current_task():
            self._on_signal(task.cancel)

    async def _work(
        self,
        api: ApiClient,
        lease: Lease,
        conflict_reporter: ConflictReporter,
        configuration: Configuration,
        key_secret: IssuanceKeySecret,
    ) -> None:
        """Reconcile until cancelled; only the operator that holds the Lease does this."""
        options, settings, metrics = self._options, self._settings, self._metrics
        metrics.leader.set(1)
        keys = await key_secret.load()
        require_label = settings.sources.require_label
        store = SecretStore(api, keys, watched=options.watch_secrets, require_label=require_label)
        work_queue = WorkQueue(options.concurrent)
        read = functools.partial(read_value, api, require_label=require_label)
        tokens = TokenSecrets(api, may_list=options.watch_secrets)
        stores = Stores(store, tokens, read, ServiceAccounts(api).make_token)
        with build_dependencies(
            settings,
            self._now,
            self._rand,
            stores,
            metrics,
            self._service_health,
            workers=Workers(options.concurrent, work_queue.free_worker, work_queue.regain_worker, work_queue.expedite),
            token_locks=TokenLocks(time.monotonic),
            pending_tokens=self._pending_tokens,
            check_lease=lease.check,
            holder=self._instance,
            proxies=options.proxies,
        ) as deps:
            controller = Controller(deps, store, work_queue, self._status_writer(api), conflict_reporter)
            self._service_health.on_recovery(controller.on_service_recovered, controller.is_awaited)
            metrics.export(controller.series, work_queue.counts)
            _log.info("renewing in %s", ", ".join(options.namespaces) or "all namespaces")
            keep_key = functools.partial(key_secret.keep, keys)
            async with conflict_reporter.scope.working(lease.is_held), self._saving_tokens(lease):
                await self._run(api, configuration, controller, work_queue, keep_key)

    @contextlib.asynccontextmanager
    async def _saving_tokens(self, lease: Lease) -> AsyncIterator[None]:
        """Wait after the block until all tokens are saved, including those from before this process stood by.

        Otherwise, the next leader would send the old tokens. If the Lease is already lost, this does not wait.
        """
        try:
            yield
        finally:
            if lease.is_held():
                await self._pending_tokens.wait()

    async def _run(
        self,
        api: ApiClient,
        configuration: Configuration,
        controller: Controller,
        work_queue: WorkQueue,
        keep_key: Callable[[], Coroutine[None, None, None]],
    ) -> None:
        options, metrics, namespaces = self._options, self._metrics, self._options.namespaces
        watches = {
            namespace: self._secret_watches(api, secrets_path(namespace), controller)
            for namespace in (namespaces or ("",) if options.watch_secrets else ())
        }

        async def secrets_listed(namespace: str) -> None:
            for watch in watches.get(namespace, ()):
                await watch.listed.wait()

        boundary = Boundary("request_watch", f"the watch of {PLURAL}", metrics)
        responses = RequestResponses(
            api,
            controller.on_request,
            controller.on_request_list,
            boundary,
            secrets_listed,
            is_known=controller.is_known,
        )
        all_watches = list(itertools.chain(*watches.values()))
        self._lists = [*(watch.unlisted for watch in all_watches), responses.unlisted]
        self._on_restored = [*(watch.on_restored for watch in all_watches), responses.on_restored]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keep_key())
            for watch in all_watches:
                tasks.create_task(watch.run())
            tasks.create_task(controller.batches.run())
            tasks.create_task(work_queues.run(work_queue, controller.run_one, self._now, controller.on_clock_set))
            await watch_requests(api, configuration, namespaces, responses, self._on_signal)
            # Ends the other tasks, too. The Lease is kept until then, because it protects a token that is being saved.
            raise asyncio.CancelledError

    def _secret_watches(self, api: ApiClient, path: str, controller: Controller) -> list[SecretWatch]:
        return [
            SecretWatch(api, path, selector, on_change, Boundary(component, f"the watch of {path}", self._metrics))
            for component, selector, on_change in (
                ("secret_watch", OUR_LABEL, controller.on_secret),
                ("source_watch", "=".join(SOURCE_LABEL), controller.on_source_secret),
            )
        ]


async def load_configuration(kubeconfig: str | None, proxies: Proxies) -> Configuration:
    """Return the configuration from a kubeconfig or the service account. Raises NoClusterError.

    Its `proxy` has no credentials; `proxy_headers` has them.
    """
    configuration = Configuration()
    # Otherwise aiohttp looks for a netrc file and proxies in a thread before every request: 12% of all CPU time. And it
    # would buffer 4 MiB of each response that is not read yet.
    configuration.client_session_kwargs = {"trust_env": False, "read_bufsize": 2**16}
    # No limit. Of the default 100 connections, two watches for each of 50 namespaces would leave none for the Lease.
    configuration.connection_pool_maxsize = 0
    # asyncio has a buffer of 256 KiB for each TLS connection, of which there are four for each of these namespaces.
    sslproto.SSLProtocol.max_size = 2**15
    # Python 3.13 requires extensions that the certificates of many clusters lack, including Amazon EKS.
    configuration.disable_strict_ssl_verification = True
    try:
        if kubeconfig or os.environ.get("KUBECONFIG"):
            await kube_config.load_kube_config(kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            kube_config.load_incluster_config(configuration, try_refresh_token=False)  # type: ignore[no-untyped-call]
            token = TokenFile(incluster_config.SERVICE_TOKEN_FILENAME, configuration.api_key["BearerToken"])
            configuration.refresh_api_key_hook = token.refresh  # type: ignore[assignment]  # its type is inferred from None
    except (ConfigException, OSError, UnicodeError, YAMLError) as error:
        source = kubeconfig or os.environ.get("KUBECONFIG") or "not running in a pod, and --kubeconfig is not set"
        raise NoClusterError(f"no cluster: {source}: {error}") from error
    except TypeError as error:
        # The client raises this if the kubeconfig is empty or not a mapping.
        raise NoClusterError("no cluster: the kubeconfig is empty or invalid") from error
    try:
        url = configuration.proxy
        proxy = parse_proxy(url, "proxy-url of the kubeconfig") if url else proxies.for_url(configuration.host)
    except ValueError as error:
        raise NoClusterError(f"no cluster: {error}") from None
    configuration.proxy, configuration.proxy_headers = (proxy.url, proxy.headers) if proxy else (None, None)
    return configuration
