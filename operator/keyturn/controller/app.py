"""The operator: builds the watches, the work queue, the controller and the writers, and runs them."""

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
from datetime import datetime
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
from keyturn.metrics import Metrics
from keyturn.reconcile.dependencies import Stores, TokenLocks, build_dependencies

_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_log = logging.getLogger(__name__)


class NoClusterError(Exception):
    """There is neither a service account nor a usable kubeconfig."""


@dataclass(frozen=True, slots=True)
class Options:
    """The operator's command-line options. Without `namespaces`, it watches all of them."""

    kubeconfig: str | None
    namespaces: tuple[str, ...]
    http_bind_address: str
    concurrent: int
    leader_elect: bool
    lease_name: str
    lease_namespace: str | None
    watch_secrets: bool = True


class Operator:
    """The composition root: the operator in one cluster."""

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
        """Run until SIGTERM or SIGINT.

        Raises NoClusterError if there is no cluster, BindError if the port cannot be opened, and LeaseLostError if
        another operator took over.
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
            if options.leader_elect:
                self._held_until = lambda: lease.held_until
            # Compared on each write, not set by an event: a frozen process would write before it handles the event.
            api = ApiClient(client, self._service_health, lambda: time.monotonic() < self._held_until())
            work = functools.partial(self._work, api, configuration)

            def not_ready() -> str:
                is_ready = lease.responded.is_set() or not options.leader_elect
                return "" if is_ready else "the API server has not responded yet"

            async with serve(options.http_bind_address, self._metrics.registry, not_ready):
                await _until_signalled(lead(lease, work) if options.leader_elect else work())

    async def _work(self, api: ApiClient, configuration: Configuration) -> None:
        """Reconcile until cancelled; only the operator that holds the Lease does this."""
        options, settings, metrics = self._options, self._settings, self._metrics
        metrics.leader.set(1)
        require_label = settings.sources.require_label
        store = SecretStore(api, watched=options.watch_secrets, require_label=require_label)
        read = functools.partial(read_value, api, require_label=require_label)
        stores = Stores(store, TokenSecrets(api), read, ServiceAccounts(api).make_token)
        with build_dependencies(
            settings,
            self._now,
            self._rand,
            stores,
            metrics,
            self._service_health,
            threads=options.concurrent,
            token_locks=TokenLocks(time.monotonic),
            check_lease=self._check_lease,
            holder=self._instance,
        ) as deps:
            work_queue = WorkQueue(options.concurrent)
            controller = Controller(deps, store, work_queue, StatusWriter(api, self._now, self._instance))
            self._service_health.on_recovery(controller.on_service_recovered)
            metrics.export(controller.index.series, work_queue.counts)
            _log.info("renewing in %s", ", ".join(options.namespaces) or "all namespaces")
            await self._run(api, configuration, controller, work_queue)

    def _check_lease(self, seconds: float) -> None:
        """Raise UnavailableError unless this process holds the Lease for that long, even if it is not renewed."""
        if self._held_until() - time.monotonic() < seconds:
            raise UnavailableError("Unavailable", "the Lease does not last long enough to consume a token")

    async def _run(
        self, api: ApiClient, configuration: Configuration, controller: Controller, work_queue: WorkQueue
    ) -> None:
        namespaces = self._options.namespaces
        async with asyncio.TaskGroup() as tasks:
            listed = []
            for path in _secret_paths(namespaces) if self._options.watch_secrets else ():
                for selector, on_change in (
                    (OUR_LABEL, controller.on_secret),
                    ("=".join(SOURCE_LABEL), controller.on_source_secret),
                ):
                    listed.append(asyncio.Event())
                    tasks.create_task(watch(api, path, selector, on_change, listed[-1]))
            # Secrets first: the issuance record on a Secret decides whether its request is due.
            await asyncio.gather(*(event.wait() for event in listed))
            tasks.create_task(work_queues.run(work_queue, controller.run_one, self._now, controller.on_clock_set_back))
            await watch_requests(api, configuration, namespaces, controller.on_request, controller.on_request_list)
            # kopf handles SIGTERM and SIGINT itself and returns; everything else ends with it.
            raise asyncio.CancelledError


async def _until_signalled(work: Coroutine[None, None, None]) -> None:
    """Run `work` until it ends, or until SIGTERM or SIGINT cancels it."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _configuration(kubeconfig: str | None) -> Configuration:
    configuration = Configuration()
    # Otherwise aiohttp looks for a netrc file and proxies in threads before every request: 12 % of all CPU.
    configuration.client_session_kwargs = {"trust_env": False}
    # Python 3.13 requires extensions that the certificates of many clusters lack, of Amazon EKS too.
    configuration.disable_strict_ssl_verification = True
    try:
        if kubeconfig or os.environ.get("KUBECONFIG"):
            await kube_config.load_kube_config(kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            kube_config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError, YAMLError) as error:
        source = kubeconfig or os.environ.get("KUBECONFIG") or "not running in a pod, and --kubeconfig is not set"
        raise NoClusterError(f"no cluster: {source}: {error}") from error
    except TypeError as error:
        # The client raises this if the kubeconfig is empty or not a mapping.
        raise NoClusterError("no cluster: the kubeconfig is empty or invalid") from error
    if configuration.proxy is None:
        configuration.proxy = _proxy(configuration.host)
    return configuration


def _proxy(url: str) -> str | None:
    """Return the proxy for the API server from the environment."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


def _lease_namespace(options: Options) -> str:
    if options.lease_namespace:
        return options.lease_namespace
    return _OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.exists() else "default"


def _secret_paths(namespaces: tuple[str, ...]) -> list[str]:
    return [secrets_path(namespace) for namespace in namespaces] or ["/api/v1/secrets"]
