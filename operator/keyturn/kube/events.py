"""kopf watches the TokenRequests: no handler that patches, no finalizer, no annotation of its own."""

from collections.abc import Awaitable, Collection, Iterator, Sequence
from typing import Any, Protocol
from uuid import uuid4

import kopf
from kubernetes.aio.client import Configuration

from keyturn.core.model import GROUP, PLURAL, VERSION

_PAGE = 500


class Seen(Protocol):
    """Who is told of each TokenRequest."""

    def __call__(self, body: dict[str, Any], *, alive: bool) -> Awaitable[None]:
        """Take in a TokenRequest that is there, has changed or has gone."""


async def watch_requests(configuration: Configuration, namespaces: Sequence[str], seen: Seen) -> None:
    """Tell `seen` of every TokenRequest there is and of every change, until SIGTERM or SIGINT (kopf's own)."""
    registry = kopf.OperatorRegistry()

    # Measured: an event handler costs one status write of ours; create and update handlers add a write of
    # theirs, daemons and timers a finalizer each.
    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def _(event: Any, **_: Any) -> None:
        await seen(event["object"], alive=event["type"] != "DELETED")

    @kopf.on.login(registry=registry)
    async def _(**_: Any) -> kopf.ConnectionInfo:
        return await _connection(configuration)

    started = await kopf.spawn_tasks(
        registry=registry,
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
    return settings


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
