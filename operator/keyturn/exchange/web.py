"""HTTPS to issuers that a user names: pinned, bounded, and never into the network that we stand in."""

import asyncio
import ipaddress
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.outages import Outages
from keyturn.core.settings import WebSettings
from keyturn.metrics import Metrics

_CALL_SECONDS, _SLOT_SECONDS = 10, 5
_IN_FLIGHT = 2
_LONGEST = 64 * 1024
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Where clouds hand out the identity of the machine: never, whatever the settings say.
_METADATA = tuple(ipaddress.ip_network(n) for n in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32"))


@dataclass(frozen=True, slots=True)
class Form:
    """A form to send to `url`; `trusted` replaces the usual certificates."""

    url: str
    fields: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    trusted: ssl.SSLContext | None = None

    @property
    def host(self) -> str:
        """The host that is asked."""
        return URL(self.url).host or ""


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
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_IN_FLIGHT))

    async def post(self, exchange: str, form: Form) -> WebAnswer:
        """Send a form, once. Raises UnavailableError; it is `in_doubt` from the moment that something was sent."""
        host = form.host
        if self._settings.hosts and host not in self._settings.hosts:
            raise RefusedError("SpecInvalid", f"the settings of this Keyturn do not allow the host {host}")
        await self._slot(host)
        started, code = time.monotonic(), "other"
        try:
            answer = await self._send(form)
            code = "OK" if answer.status in range(200, 300) else "other"
        except UnavailableError as error:
            error.system = host
            self._outages.failed(host)
            raise
        finally:
            self._slots[host].release()
            self._metrics.exchanges.labels(exchange, code).inc()
            self._metrics.exchange_duration.labels(exchange).observe(time.monotonic() - started)
        self._outages.worked(host, time.monotonic())
        return answer

    async def _slot(self, host: str) -> None:
        try:
            async with asyncio.timeout(_SLOT_SECONDS):
                await self._slots[host].acquire()
        except TimeoutError:
            raise UnavailableError("Unavailable", f"{host} is busy with other requests of ours") from None

    async def _send(self, form: Form) -> WebAnswer:
        asked_at = self._now()
        try:
            async with (
                self._session(form) as session,
                session.post(form.url, data=form.fields, headers=form.headers, allow_redirects=False) as response,
            ):
                body = await _bounded(response)
                return WebAnswer(form.host, response.status, _object(body), _retry_after(response), asked_at)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL):
            # One sentence for DNS, TLS, a closed port and an address that is not allowed: it maps no network.
            raise UnavailableError("Unreachable", f"{form.host} could not be reached") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            sentence = f"{form.host} was asked and gave no whole answer ({type(error).__name__})"
            raise UnavailableError("Unreachable", sentence, in_doubt=True) from None

    def _session(self, form: Form) -> aiohttp.ClientSession:
        resolver = _Resolver(self._settings)
        resolver.check(form.host)
        # No kept-alive connection: one that the issuer has just closed would look like a lost answer.
        connector = aiohttp.TCPConnector(
            resolver=resolver, ssl=form.trusted or True, force_close=True, use_dns_cache=False
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=_CALL_SECONDS, sock_connect=5),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/json", "User-Agent": "keyturn"},
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
        mapped = getattr(address, "ipv4_mapped", None)
        if mapped:
            return self.allows(mapped)
        if any(address in network for network in _METADATA if network.version == address.version):
            return False
        listed = any(address in network for network in self._networks if network.version == address.version)
        return listed or (address.is_global and not address.is_multicast)

    async def close(self) -> None:
        """Nothing is held."""


def _object(body: bytes) -> dict[str, Any] | None:
    if len(body) > _LONGEST:
        return None
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return None


def _retry_after(response: aiohttp.ClientResponse) -> timedelta:
    value = response.headers.get("Retry-After", "")
    return timedelta(seconds=min(int(value), 3600)) if value.isdecimal() else timedelta()
