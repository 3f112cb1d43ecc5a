"""HTTPS to issuers that a user names: pinned, bounded, and never into the network that we stand in."""

import asyncio
import codecs
import ipaddress
import re
import socket
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
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.outages import Outages
from keyturn.core.settings import WebSettings
from keyturn.exchange.pace import told_wait
from keyturn.metrics import Metrics

_CALL_SECONDS, _SLOT_SECONDS = 10, 5
_IN_FLIGHT = 2
_LONGEST = 64 * 1024
_FORM = "application/x-www-form-urlencoded"
_UNSENT = (
    *(aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError),
    aiohttp.InvalidURL,
)
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Where clouds (AWS, Azure, Alibaba, Oracle, Google) hand out the identity of the machine: never, whatever the
# settings say.
_METADATA = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32"),
        *("fe80::/10", "fd00:ec2::/32", "fd20:ce::/32"),
    )
)
# All of IPv6 that is given out; Python calls more than that global.
_GLOBAL = ipaddress.ip_network("2000::/3")
_NUMBERS, _DOTTED = re.compile(r"(0x[0-9a-f]+|[0-9.])+"), re.compile(r"([0-9]{1,3}\.){3}[0-9]{1,3}")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Form:
    """A form to send to `url`; a field may come more than once. `trusted` replaces the usual certificates."""

    url: str
    fields: Sequence[tuple[str, str]] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    trusted: ssl.SSLContext | None = None

    @property
    def host(self) -> str:
        """The host that is asked; raises RefusedError (SpecInvalid) for what is no URL."""
        try:
            url = URL(self.url)
            host = (url.host or "").encode("idna").decode() if url.port else ""
        except ValueError:
            host = ""
        # 127.1 and 2130706433 are addresses too, to some resolvers.
        if not host or (_NUMBERS.fullmatch(host) and not _DOTTED.fullmatch(host)):
            raise RefusedError("SpecInvalid", "tokenUrl names no host")
        return host


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """What an issuer answered. `json` is None where it is no JSON object."""

    host: str
    status: int
    json: dict[str, Any] | None = field(repr=False)
    retry_after: timedelta
    asked_at: datetime


class Web:
    """The connections to issuers, in a pool of their own: at most two calls in flight per host."""

    def __init__(
        self,
        settings: WebSettings,
        metrics: Metrics,
        now: Callable[[], datetime],
        outages: Outages,
    ) -> None:
        self._settings = settings
        self._outages = outages
        self._metrics = metrics
        self._now = now
        # A host is free text: it is forgotten when nobody asks it.
        self._slots: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def now(self) -> datetime:
        """The time, for what is signed with it."""
        return self._now()

    async def post(self, exchange: str, form: Form) -> WebAnswer:
        """Send a form, once. Raises UnavailableError; it is `in_doubt` from the moment that something was sent."""
        host = form.host
        if self._settings.hosts and host not in self._settings.hosts:
            raise RefusedError("SpecInvalid", f"the settings of this Keyturn do not allow the host {host}")
        slot = await self._slot(host)
        started, code = time.monotonic(), "other"
        try:
            answer = await self._send(form)
            code = "OK" if answer.status in range(200, 300) else "other"
        except UnavailableError as error:
            error.system = host
            self._outages.failed(host)
            raise
        finally:
            slot.release()
            self._metrics.exchanges.labels(exchange, code).inc()
            self._metrics.exchange_duration.labels(exchange).observe(time.monotonic() - started)
        self._outages.worked(host, time.monotonic())
        return answer

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

    async def _send(self, form: Form) -> WebAnswer:
        asked_at = self._now()
        try:
            async with (
                self._session(form) as session,
                session.post(
                    form.url, data=urlencode(form.fields), headers=form.headers, allow_redirects=False
                ) as response,
            ):
                body, retry_after = await _bounded(response), response.headers.get("Retry-After", "")
                return WebAnswer(form.host, response.status, _object(body), told_wait(retry_after), asked_at)
        except _UNSENT:
            # One sentence for DNS, TLS, a closed port and an address that is not allowed: it maps no network.
            raise UnavailableError("Unreachable", f"{form.host} could not be reached") from None
        except ValueError:
            raise RefusedError("SpecInvalid", "tokenUrl is not a URL that can be asked") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            sentence = f"{form.host} was asked and gave no whole answer ({type(error).__name__})"
            raise UnavailableError("Unreachable", sentence, in_doubt=True) from None

    def _session(self, form: Form) -> aiohttp.ClientSession:
        proxy = self._settings.proxy
        resolver = None if proxy else _Resolver(self._settings)
        if resolver:
            resolver.check(form.host)
        # No kept-alive connection: one that the issuer has just closed would look like a lost answer.
        connector = aiohttp.TCPConnector(
            resolver=resolver, ssl=form.trusted or True, force_close=True, use_dns_cache=False
        )
        return aiohttp.ClientSession(
            connector=connector,
            proxy=proxy,
            timeout=aiohttp.ClientTimeout(total=_CALL_SECONDS, connect=5, sock_connect=5),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/json", "User-Agent": "keyturn", "Content-Type": _FORM},
        )


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _LONGEST:
            break
    return body


class _Resolver(AbstractResolver):
    """Resolves a host, and hands out only addresses that may be spoken to: aiohttp connects to just these.

    To check the name and let it be resolved a second time would let an attacker answer differently.
    """

    def __init__(self, settings: WebSettings) -> None:
        self._networks = tuple(ipaddress.ip_network(network) for network in settings.private_networks)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        allowed = [
            ResolveResult(hostname=host, host=str(address[0]), port=port, family=kind, proto=proto, flags=0)
            for kind, _, proto, _, address in found
            if self.allows(ipaddress.ip_address(str(address[0]).partition("%")[0]))
        ]
        if not allowed:
            raise OSError(None, "no address of it may be spoken to")
        return allowed

    def check(self, host: str) -> None:
        """Refuse an address that stands in the URL itself: aiohttp resolves no such host."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return
        if not self.allows(address):
            raise UnavailableError("Unreachable", f"{host} could not be reached")

    def allows(self, address: _Address) -> bool:
        """Whether an address may be spoken to."""
        inner = _inner(address)
        if inner:
            return self.allows(inner)
        if any(address in network for network in _METADATA if network.version == address.version):
            return False
        listed = any(address in network for network in self._networks if network.version == address.version)
        given_out = address.version == 4 or address in _GLOBAL  # noqa: PLR2004 - of IP
        return listed or (given_out and address.is_global and not address.is_multicast)

    async def close(self) -> None:
        """Nothing is held."""


def _inner(address: _Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one leads to: mapped, by NAT64 (RFC 6052) or by 6to4 (RFC 3056)."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _object(body: bytes) -> dict[str, Any] | None:
    if len(body) > _LONGEST:
        return None
    try:
        # RFC 8259 section 8.1: nobody is to write a byte order mark, and it may be passed over.
        return msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8), type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return None
