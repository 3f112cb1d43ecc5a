"""The Kubernetes shell put together: watches in, the agenda in the middle, writes out."""

import asyncio
import contextlib
import functools
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from kubernetes.aio import config as kube_config
from kubernetes.aio.client import ApiClient as KubernetesClient
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException
from yaml import YAMLError

from keyturn.controller import work_queue as work_queues
from keyturn.controller.api_client import ApiClient, secrets_path
from keyturn.controller.controller import Controller
from keyturn.controller.health import serve
from keyturn.controller.kopf_adapter import watch_requests
from keyturn.controller.leader_election import Lease, lead
from keyturn.controller.secret_store import SecretStore
from keyturn.controller.secret_watch import watch
from keyturn.controller.service_account_tokens import ServiceAccounts
from keyturn.controller.source_reader import SOURCE_LABEL, read_value
from keyturn.controller.status_writer import StatusWriter
from keyturn.controller.token_secrets import TokenSecrets
from keyturn.controller.work_queue import WorkQueue
from keyturn.core.errors import UnavailableError
from keyturn.core.issuance import OUR_LABEL
from keyturn.core.service_health import ServiceHealth
from keyturn.core.settings import Settings
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.context import ExchangeContext
from keyturn.exchanges.issuer_http import IssuerClient
from keyturn.exchanges.registry import exchange
from keyturn.metrics import Metrics
from keyturn.reconcile.dependencies import Dependencies, TokenLocks

_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_log = logging.getLogger(__name__)


class NoClusterError(Exception):
    """There is no cluster to work in: neither a service account nor a usable kubeconfig."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says of the operator. No namespaces mean all of them."""

    kubeconfig: str | None
    namespaces: tuple[str, ...]
    http_bind_address: str
    concurrent: int
    leader_elect: bool
    lease_name: str
    lease_namespace: str | None
    watch_secrets: bool = True


class Operator:
    """The operator in one cluster."""

    def __init__(
        self, options: Options, settings: Settings, now: Callable[[], datetime], rand: Callable[[], float]
    ) -> None:
        self._options = options
        self._settings = settings
        self._now = now
        self._rand = rand
        self._metrics = Metrics()
        self._service_health = ServiceHealth()
        self._instance = f"{socket.gethostname()}-{os.getpid()}"
        self._held_until: Callable[[], float] = lambda: math.inf

    async def run(self) -> None:
        """Run until told to stop.

        Raises NoClusterError where there is none, LeaseLostError where another operator has taken over.
        """
        options = self._options
        configuration = await _configuration(options.kubeconfig)
        async with KubernetesClient(configuration) as client:
            lease = Lease(
                ApiClient(client, self._service_health),
                _lease_namespace(options),
                options.lease_name,
                self._instance,
                self._now,
            )
            self._metrics.leader.set(0)
            ready = lease.seen.is_set if options.leader_elect else (lambda: True)
            if options.leader_elect:
                self._held_until = lambda: lease.held_until
            # By the clock, not when somebody tells: who was frozen writes before anything else is noticed.
            api = ApiClient(client, self._service_health, lambda: time.monotonic() < self._held_until())
            serving = await serve(options.http_bind_address, self._metrics.registry, ready)
            work = functools.partial(self._work, api, configuration)
            try:
                await _until_told(lead(lease, work) if options.leader_elect else work())
            finally:
                await serving.cleanup()

    async def _work(self, api: ApiClient, configuration: Configuration) -> None:
        """Renew: the work of the one operator that holds the Lease."""
        options, metrics = self._options, self._metrics
        metrics.leader.set(1)
        allow_ambient = bool(self._settings.sources.ambient)
        aws = Aws(
            self._settings.aws,
            metrics,
            self._now,
            self._service_health,
            options.concurrent,
            allow_ambient=allow_ambient,
        )
        require_label = self._settings.sources.require_label
        store = SecretStore(api, watched=options.watch_secrets, require_label=require_label)
        work_queue = WorkQueue(options.concurrent)
        context = ExchangeContext(
            aws=aws,
            issuer_client=IssuerClient(self._settings.issuers, metrics, self._now, self._service_health),
            read_value=functools.partial(read_value, api, require_label=require_label),
            make_token=ServiceAccounts(api).make_token,
            sources=self._settings.sources,
        )
        deps = Dependencies(
            store=store,
            tokens=TokenSecrets(api),
            exchange=functools.partial(exchange, context),
            now=self._now,
            rand=self._rand,
            token_locks=TokenLocks(time.monotonic),
            metrics=metrics,
            check_lease=self._check_lease,
            holder=self._instance,
            least_interval=timedelta(seconds=self._settings.renewal.min_interval_seconds),
        )
        controller = Controller(deps, store, work_queue, StatusWriter(api, self._now, self._instance))
        self._service_health.on_recovery(controller.on_service_recovered)
        metrics.export(controller.index.series, work_queue.counts)
        _log.info("renewing in %s", ", ".join(options.namespaces) or "all namespaces")
        with contextlib.closing(aws):
            await self._renew(api, configuration, controller, work_queue)

    def _check_lease(self, seconds: float) -> None:
        """Raise UnavailableError unless the Lease is ours for so long, whatever happens to it from now on."""
        if self._held_until() - time.monotonic() < seconds:
            raise UnavailableError("Unavailable", "the Lease does not last long enough to spend a token")

    async def _renew(
        self, api: ApiClient, configuration: Configuration, controller: Controller, work_queue: WorkQueue
    ) -> None:
        namespaces = self._options.namespaces
        async with asyncio.TaskGroup() as tasks:
            listed = []
            for path in _secret_paths(namespaces) if self._options.watch_secrets else ():
                for selector, see in (
                    (OUR_LABEL, controller.on_secret),
                    ("=".join(SOURCE_LABEL), controller.on_source_secret),
                ):
                    listed.append(asyncio.Event())
                    tasks.create_task(watch(api, path, selector, see, listed[-1]))
            # The Secrets first: what a request needs is decided by what its Secret says.
            await asyncio.gather(*(event.wait() for event in listed))
            tasks.create_task(work_queues.run(work_queue, controller.run_one, self._now, controller.on_clock_set_back))
            await watch_requests(api, configuration, namespaces, controller.on_request, controller.on_request_list)
            # kopf ends with SIGTERM or SIGINT, which it handles itself: so does all the rest.
            raise asyncio.CancelledError


async def _until_told(work: Coroutine[None, None, None]) -> None:
    """Run `work` until it ends, or until SIGTERM or SIGINT cancels it."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _configuration(kubeconfig: str | None) -> Configuration:
    configuration = Configuration()
    # Else aiohttp looks for a netrc file and for proxies, in threads, before every request: 12 % of all CPU.
    configuration.client_session_kwargs = {"trust_env": False}
    # Python 3.13 wants extensions in certificates that clusters, of Amazon EKS too, were made without.
    configuration.disable_strict_ssl_verification = True
    try:
        if kubeconfig or os.environ.get("KUBECONFIG"):
            await kube_config.load_kube_config(kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            kube_config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError, YAMLError) as error:
        where = kubeconfig or os.environ.get("KUBECONFIG") or "this is no pod, and there is no --kubeconfig"
        raise NoClusterError(f"no cluster: {where}: {error}") from error
    except TypeError as error:
        # The client's way to say that a kubeconfig is an empty file, or not a mapping.
        raise NoClusterError("no cluster: the kubeconfig is empty, or is none") from error
    if configuration.proxy is None:
        configuration.proxy = _proxy(configuration.host)
    return configuration


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for the API server, read once."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


def _lease_namespace(options: Options) -> str:
    if options.lease_namespace:
        return options.lease_namespace
    return _OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.exists() else "default"


def _secret_paths(namespaces: tuple[str, ...]) -> list[str]:
    return [secrets_path(namespace) for namespace in namespaces] or ["/api/v1/secrets"]
