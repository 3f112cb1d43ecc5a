"""kopf watches the TokenRequests: no handler that patches, no finalizer, no annotation of its own."""

import asyncio
import itertools
import logging
import ssl
from collections.abc import Awaitable, Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from http import HTTPStatus
from typing import Any, Protocol, cast
from uuid import uuid4

import aiohttp
import kopf
import msgspec
from kubernetes.aio.client import Configuration

from keyturn.api.base import GROUP
from keyturn.api.token_request import PLURAL, VERSION
from keyturn.controller.api_client import ApiClient
from keyturn.core.errors import UnavailableError

_PAGE = 500
_UNTIL_SERVED_SECONDS = 5
_log = logging.getLogger(__name__)


class Seen(Protocol):
    """Who is told of each TokenRequest."""

    def __call__(self, body: dict[str, Any], *, alive: bool) -> Awaitable[None]:
        """Take in a TokenRequest that is there, has changed or has gone."""


class Listed(Protocol):
    """Who is told which TokenRequests a whole list shows, of one namespace or, without its name, of all."""

    def __call__(self, uids: AbstractSet[str], namespace: str) -> None:
        """Take in that there are these and no others."""


async def watch_requests(
    api: ApiClient, configuration: Configuration, namespaces: Sequence[str], seen: Seen, listed: Listed
) -> None:
    """Tell `seen` of every TokenRequest there is and of every change, until SIGTERM or SIGINT (kopf's own).

    It waits for the CRD, and lives through its end: what went unseen meanwhile is what `listed` is not told of.
    """
    await _served(api)
    registry = kopf.OperatorRegistry()

    # Measured: an event handler costs one status write of ours; create and update handlers add a write of
    # theirs, daemons and timers a finalizer each.
    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def _(event: Any, **_: Any) -> None:
        await seen(event["object"], alive=event["type"] != "DELETED")

    @kopf.on.login(registry=registry)
    async def _(**_: Any) -> kopf.AiohttpSession:
        return _session(await _connection(configuration), configuration.proxy, listed)

    started = await kopf.spawn_tasks(
        registry=registry,
        # kopf would ask for the name of our user, and in the image 65532 has none.
        identity=cast("Any", "keyturn"),
        settings=_settings(),
        clusterwide=not namespaces,
        namespaces=tuple(namespaces),
    )
    await kopf.run_tasks(started, ignored=_Everything())


class _Everything(Collection[Any]):
    """The tasks that kopf must leave alone when it ends.

    Else it takes every task that is younger than itself for its own and cancels it within five seconds: the save
    of a rotated token too.
    """

    def __contains__(self, _: object) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _NothingHandled(kopf.DiffBaseStorage):
    """No record of what was handled: kopf's own is an annotation, which anybody may write."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return {}

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        """Keep nothing."""


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = _NothingHandled()
    # A name that nobody can put on an object: kopf would try to take its own finalizer away, for ever.
    settings.persistence.finalizer = f"{GROUP}/{uuid4()}"
    settings.posting.enabled = False
    settings.peering.standalone = True
    # Else kopf watches CRDs and namespaces, which no namespaced install may.
    settings.scanning.disabled = True
    settings.watching.chunk_size = _PAGE
    settings.watching.server_timeout = 290
    settings.process.ultimate_exiting_timeout = None
    # A worker lives on for so long after its event, 5 s by default: at start, one for each object there is.
    settings.queueing.idle_timeout = 0.05
    # By default it gives up after a minute, and with it ends all of us.
    settings.networking.error_backoffs = _Patience()
    return settings


class _Patience:
    """Pauses between tries, in seconds, for ever. kopf counts what has a length."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1, 1, 2, 3), itertools.repeat(5))


async def _served(api: ApiClient) -> None:
    """Wait until the API server serves TokenRequests: what kopf does not find at its start it never watches."""
    for tried in itertools.count():
        try:
            if await _is_served(api):
                return
        except UnavailableError as error:
            _log.warning("waiting for the API server: %s", error)
        else:
            _log.log(logging.DEBUG if tried else logging.WARNING, "waiting for the CRD %s.%s", PLURAL, GROUP)
        await asyncio.sleep(_UNTIL_SERVED_SECONDS)


async def _is_served(api: ApiClient) -> bool:
    groups = (await api.request("GET", "/apis")).body.get("groups") or ()
    kinds = (await api.request("GET", f"/apis/{GROUP}/{VERSION}")).body.get("resources") or ()
    return GROUP in {group["name"] for group in groups} and PLURAL in {kind["name"] for kind in kinds}


async def _connection(configuration: Configuration) -> kopf.ConnectionInfo:
    """What kopf needs to speak to the same API server; asked anew when a token is refused."""
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


def _session(info: kopf.ConnectionInfo, proxy: str | None, listed: Listed) -> kopf.AiohttpSession:
    """Make kopf's connection as it would itself, but by our proxy, and heard."""
    trusted = info.as_ssl_context()
    trusted.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as of the other connection to the API server
    http = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=trusted),
        headers=info.as_http_headers(),
        middlewares=(_Responses(listed),),
        proxy=proxy,
    )
    return kopf.AiohttpSession(aiohttp_session=http, server=info.server)


class _Metadata(msgspec.Struct, frozen=True):
    uid: str = ""
    remaining: str = msgspec.field(default="", name="continue")


class _Item(msgspec.Struct, frozen=True):
    metadata: _Metadata


class _List(msgspec.Struct, frozen=True):
    metadata: _Metadata
    items: tuple[_Item, ...] = ()


class _Responses:
    """What the API server answers kopf about TokenRequests.

    To kopf a 404, while the CRD is away, is fatal: as a lost connection it is tried again. So is a 410, for a list
    whose pages took too long: as a broken answer it has the list begin anew. And a list that follows a cut watch
    says nothing of those that are not in it.
    """

    def __init__(self, listed: Listed) -> None:
        self._listed = listed
        self._uids: dict[str, set[str]] = {}

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        response = await handler(request)
        if not request.url.path.endswith(f"/{PLURAL}"):
            return response
        watched = "watch" in request.url.query
        if response.status == HTTPStatus.NOT_FOUND:
            response.release()
            raise aiohttp.ClientConnectionError(f"{PLURAL}.{GROUP}: HTTP 404")
        if response.status == HTTPStatus.GONE and not watched:
            response.release()
            raise aiohttp.ClientPayloadError(f"{PLURAL}.{GROUP}: HTTP 410")
        if response.status == HTTPStatus.OK and not watched:
            page = msgspec.json.decode(await response.read(), type=_List)
            self._take(request.url.path, page, first="continue" not in request.url.query)
        return response

    def _take(self, path: str, page: _List, *, first: bool) -> None:
        uids = self._uids.pop(path, set()) if not first else set()
        uids |= {item.metadata.uid for item in page.items}
        if page.metadata.remaining:
            self._uids[path] = uids
        else:
            _, _, place = path.partition("/namespaces/")
            self._listed(uids, place.partition("/")[0])
