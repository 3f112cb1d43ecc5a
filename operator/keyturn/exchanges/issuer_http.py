"""HTTPS to issuers that a user names: pinned, bounded, and never into the network that we stand in."""

import asyncio
import codecs
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from weakref import WeakValueDictionary

import aiohttp
import msgspec
from yarl import URL

from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.service_health import ServiceHealth
from keyturn.core.settings import IssuerSettings
from keyturn.exchanges.rate_limit import told_wait
from keyturn.exchanges.ssrf import Resolver
from keyturn.metrics import Metrics

_CALL_SECONDS, _SLOT_SECONDS = 10, 5
_IN_FLIGHT = 2
_LONGEST = 64 * 1024
_FORM = "application/x-www-form-urlencoded"
_NUMBERS, _DOTTED = re.compile(r"(0x[0-9a-f]+|[0-9.])+"), re.compile(r"([0-9]{1,3}\.){3}[0-9]{1,3}")


@dataclass(frozen=True, slots=True)
class Form:
    """A form to send to `url`; a field may occur more than once. `trusted` replaces the usual certificates.

    `consumes_token`: a response that is lost leaves the outcome unknown.
    """

    url: str
    fields: Sequence[tuple[str, str]] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    trusted: ssl.SSLContext | None = None
    consumes_token: bool = True

    @property
    def host(self) -> str:
        """The host that is asked; raises RefusedError (InvalidSpec) for what is no URL."""
        try:
            url = URL(self.url)
            host = (url.host or "").encode("idna").decode() if url.port else ""
        except ValueError:
            host = ""
        # 127.1 and 2130706433 are addresses too, to some resolvers.
        if not host or (_NUMBERS.fullmatch(host) and not _DOTTED.fullmatch(host)):
            raise RefusedError("InvalidSpec", "tokenUrl names no host")
        return host


@dataclass(frozen=True, slots=True)
class IssuerResponse:
    """What an issuer answered. `json` is None where it is no JSON object."""

    host: str
    status: int
    json: dict[str, Any] | None = field(repr=False)
    retry_after: timedelta
    asked_at: datetime


class IssuerClient:
    """The connections to issuers, in a pool of their own: at most two calls in flight per host."""

    def __init__(
        self,
        settings: IssuerSettings,
        metrics: Metrics,
        now: Callable[[], datetime],
        service_health: ServiceHealth,
    ) -> None:
        self._settings = settings
        self._service_health = service_health
        self._metrics = metrics
        self._now = now
        # A host is free text: it is forgotten when nobody asks it.
        self._slots: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def now(self) -> datetime:
        """The time, for what is signed with it."""
        return self._now()

    async def post(self, exchange: str, form: Form) -> IssuerResponse:
        """Send a form once. Raises UnavailableError, with `outcome_unknown` if a token may have been consumed."""
        host = form.host
        if self._settings.allowed_hosts and host not in self._settings.allowed_hosts:
            raise RefusedError("InvalidSpec", f"the settings of this Keyturn do not allow the host {host}")
        slot = await self._slot(host)
        started, code = time.monotonic(), "other"
        try:
            response = await self._send(form)
            code = "OK" if response.status in range(200, 300) else "other"
        except UnavailableError:
            self._service_health.failed(host)
            raise
        finally:
            slot.release()
            self._metrics.exchanges.labels(exchange, code).inc()
            self._metrics.exchange_duration.labels(exchange).observe(time.monotonic() - started)
        self._service_health.worked(host, time.monotonic())
        return response

    def throttled(self) -> None:
        """Count a call that an issuer refused because there were too many; its host is free text, so no label."""
        self._metrics.throttled.labels("oauth").inc()

    async def _slot(self, host: str) -> asyncio.Semaphore:
        slot = self._slots.setdefault(host, asyncio.Semaphore(_IN_FLIGHT))
        try:
            async with asyncio.timeout(_SLOT_SECONDS):
                await slot.acquire()
        except TimeoutError:
            raise UnavailableError("Unavailable", f"{host} is busy with other requests of ours") from None
        return slot

    async def _send(self, form: Form) -> IssuerResponse:
        asked_at, connected = self._now(), asyncio.Event()
        try:
            async with (
                self._session(form, connected) as session,
                session.post(
                    form.url, data=urlencode(form.fields), headers=form.headers, allow_redirects=False
                ) as response,
            ):
                body, retry_after = await _bounded(response), response.headers.get("Retry-After", "")
                return IssuerResponse(form.host, response.status, _object(body), told_wait(retry_after), asked_at)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if not connected.is_set():
                # One sentence for DNS, TLS, a closed port and an address that is not allowed: it maps no network.
                raise UnavailableError("Unreachable", f"{form.host} could not be reached", service=form.host) from None
            sentence = f"{form.host} was asked and gave no whole answer ({type(error).__name__})"
            raise UnavailableError(
                "Unreachable", sentence, service=form.host, outcome_unknown=form.consumes_token
            ) from None
        except ValueError:
            raise RefusedError("InvalidSpec", "tokenUrl is not a URL that can be asked") from None

    def _session(self, form: Form, connected: asyncio.Event) -> aiohttp.ClientSession:
        proxy = self._settings.proxy
        resolver = None if proxy else Resolver(self._settings)
        if resolver:
            resolver.check(form.host)
        # No kept-alive connection: one that the issuer has just closed would look like a lost answer.
        connector = aiohttp.TCPConnector(
            resolver=resolver, ssl=form.trusted or True, force_close=True, use_dns_cache=False
        )
        return aiohttp.ClientSession(
            connector=connector,
            proxy=proxy,
            trace_configs=[_telling(connected)],
            timeout=aiohttp.ClientTimeout(total=_CALL_SECONDS, connect=5, sock_connect=5),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/json", "User-Agent": "keyturn", "Content-Type": _FORM},
        )


def _telling(connected: asyncio.Event) -> aiohttp.TraceConfig:
    """Have `connected` set when there is a connection to the issuer itself: before that nothing is sent to it.

    The errors do not tell: a proxy that hangs up fails as an issuer does that has taken a token.
    """

    async def connect(*_: object) -> None:
        connected.set()

    traced = aiohttp.TraceConfig()
    traced.on_connection_create_end.append(connect)
    traced.on_connection_reuseconn.append(connect)
    return traced


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _LONGEST:
            break
    return body


def _object(body: bytes) -> dict[str, Any] | None:
    if len(body) > _LONGEST:
        return None
    try:
        # RFC 8259 section 8.1: nobody is to write a byte order mark, and it may be passed over.
        return msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8), type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return None
