"""Lists and watches TokenRequests with kopf, which neither patches them nor sets finalizers or annotations."""

import asyncio
import contextlib
import itertools
import logging
import ssl
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, cast
from uuid import uuid4

import aiohttp
import kopf
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException

from keyturn.api.base import GROUP
from keyturn.api.token_request import PLURAL, VERSION
from keyturn.controller.api_client import WATCH_SECONDS, ApiClient
from keyturn.controller.ca_file import trust_new_ca
from keyturn.controller.request_responses import RequestResponses
from keyturn.controller.streams import Backoff
from keyturn.core.errors import UnavailableError

_CRD_POLL_SECONDS = 5
_REQUEST_SECONDS = 60
_log = logging.getLogger(__name__)


async def watch_requests(
    api: ApiClient,
    configuration: Configuration,
    namespaces: Sequence[str],
    responses: RequestResponses,
    on_signal: Callable[[Callable[[], object]], None],
) -> None:
    """Watch TokenRequests until a signal; `responses` receives each of them and each change.

    `on_signal` registers a handler for signals. Waits for the CRD, and survives its deletion. Missed deletions are
    detected by the uids in the next list (see RequestResponses). If an exception ends kopf, it is restarted.
    """
    await _wait_for_crd(api)
    registry = kopf.OperatorRegistry()

    # kopf watches only what has a handler, but receives no object: see RequestResponses.
    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def _(**_: Any) -> None:
        pass

    @kopf.on.login(registry=registry)
    async def _(**_: Any) -> kopf.AiohttpSession:
        return kopf_session(await kopf_connection(configuration), configuration, responses)

    stop, backoff = asyncio.Event(), Backoff()
    while not stop.is_set():
        try:
            started = await _start(registry, namespaces, stop)
            # Our handlers replace those of kopf, which raise an exception at a second signal.
            on_signal(stop.set)
            await kopf.run_tasks(started, ignored=_AllTasks())
        except Exception as error:  # noqa: BLE001 - no input ends the process
            responses.boundary.report(error)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), backoff.next_pause())


async def _start(
    registry: kopf.OperatorRegistry, namespaces: Sequence[str], stop: asyncio.Event
) -> Collection[asyncio.Task[Any]]:
    return await kopf.spawn_tasks(
        registry=registry,
        # Otherwise kopf looks up our user name, and in the image user 65532 has none.
        identity=cast("Any", "keyturn"),
        settings=kopf_settings(),
        clusterwide=not namespaces,
        namespaces=tuple(namespaces),
        stop_flag=stop,
    )


class _AllTasks(Collection[Any]):
    """The tasks that kopf must not cancel when it ends: all of them.

    By default, when kopf ends, it cancels every task that was started after it, even the save of a rotated token.
    """

    def __contains__(self, _: object) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _NoStorage(kopf.DiffBaseStorage):
    """Stores nothing: kopf's own record of handled objects is an annotation, which anybody may write."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return {}

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        """Store nothing."""


def kopf_settings() -> kopf.OperatorSettings:
    """Return settings with which kopf only lists and watches TokenRequests."""
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = _NoStorage()
    # A name that no user can guess: if an object had this finalizer, kopf would try to remove it again and again.
    settings.persistence.finalizer = f"{GROUP}/{uuid4()}"
    settings.posting.enabled = False
    settings.peering.standalone = True
    # Otherwise kopf watches CRDs and namespaces, which a namespaced installation is not allowed to do.
    settings.scanning.disabled = True
    settings.watching.server_timeout = WATCH_SECONDS
    settings.process.ultimate_exiting_timeout = None
    # How long a worker lives after its event (5 s by default): at startup there is one worker per object.
    settings.queueing.idle_timeout = 0.05
    # For the requests before the first list. By default, a connection that hangs would delay the list by five minutes.
    settings.networking.request_timeout = _REQUEST_SECONDS
    # By default kopf gives up after a minute, which would end the operator.
    settings.networking.error_backoffs = _EndlessBackoff()
    return settings


class _EndlessBackoff:
    """Yields pauses between attempts in seconds, without end. It has no length, or kopf would limit the attempts."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1, 1, 2, 3), itertools.repeat(5))


async def _wait_for_crd(api: ApiClient) -> None:
    """Wait until the API server serves TokenRequests: kopf never watches a resource that is missing when it starts."""
    for attempt in itertools.count():
        try:
            if await is_crd_served(api):
                return
        except UnavailableError as error:
            _log.warning("waiting for the API server: %s", error)
        else:
            _log.log(logging.DEBUG if attempt else logging.WARNING, "waiting for the CRD %s.%s", PLURAL, GROUP)
        await asyncio.sleep(_CRD_POLL_SECONDS)


async def is_crd_served(api: ApiClient) -> bool:
    """Whether the API server lists both our group and TokenRequests in it."""
    groups = (await api.request("GET", "/apis")).body.get("groups", ())
    if GROUP not in {group["name"] for group in groups}:
        # The API server's response for an unknown group is not a Status.
        return False
    kinds = (await api.request("GET", f"/apis/{GROUP}/{VERSION}")).body.get("resources", ())
    return PLURAL in {kind["name"] for kind in kinds}


async def kopf_connection(configuration: Configuration) -> kopf.ConnectionInfo:
    """Return the connection data for the same API server, with the current token."""
    auth = (await configuration.auth_settings()).get("BearerToken", {})
    scheme, _, token = (auth.get("value") or "").partition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme="Bearer" if token else None,
        token=token or scheme or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )


def _authentication(configuration: Configuration) -> aiohttp.ClientMiddlewareType:
    """Return middleware that adds the current token, which the kubelet replaces each hour."""

    async def authenticate(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        try:
            request.headers.update((await kopf_connection(configuration)).as_http_headers())
        except (ConfigException, OSError):
            raise aiohttp.ClientConnectionError("the token of the service account could not be read") from None
        return await handler(request)

    return authenticate


def kopf_session(
    info: kopf.ConnectionInfo, configuration: Configuration, responses: RequestResponses
) -> kopf.AiohttpSession:
    """Create the HTTP session as kopf does, but with our proxy and middleware."""

    async def authenticate_to_proxy(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.update_proxy(request.proxy, None, configuration.proxy_headers)
        try:
            return await handler(request)
        except aiohttp.ClientHttpProxyError as error:
            # Its repr contains the Proxy-Authorization header. kopf retries a lost connection.
            raise aiohttp.ClientConnectionError(f"the proxy returned HTTP {error.status}") from None

    context = info.as_ssl_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as in app.load_configuration

    async def trust_ca_file(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        try:
            return await handler(request)
        except aiohttp.ClientConnectorCertificateError:
            trust_new_ca(context, configuration.ssl_ca_cert)
            raise  # kopf retries a lost connection.

    http = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=context),
        # The proxy's credentials are not in its URL: kopf logs the repr of exceptions, which contains the URL.
        middlewares=(
            responses,
            trust_ca_file,
            _authentication(configuration),
            *((authenticate_to_proxy,) if configuration.proxy else ()),
        ),
        proxy=configuration.proxy,
        # aiohttp would buffer 512 KiB of each page that waits for a slot (see RequestResponses).
        read_bufsize=2**16,
    )
    return kopf.AiohttpSession(aiohttp_session=http, server=info.server)
