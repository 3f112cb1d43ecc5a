"""HTTPS requests to the issuers that users specify, with limits on time and size, and protection against SSRF."""

import functools
import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import aiohttp
from yarl import URL

from keyturn.api.times import whole_seconds
from keyturn.core.bounded_json import decode_response
from keyturn.core.clock import measure_skew
from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, UnavailableError, drop_frames
from keyturn.core.proxies import NO_PROXIES, Proxies, Proxy, canonical_host
from keyturn.core.service_health import ServiceHealth
from keyturn.core.settings import IssuerSettings
from keyturn.exchanges.cpu_limiter import CpuLimiter
from keyturn.exchanges.issuer_sockets import NOT_ALLOWED, AddressFilter, BoundedSocket, open_bounded_socket
from keyturn.exchanges.issuer_threads import IssuerThreads
from keyturn.exchanges.rate_limit import ConcurrencyLimiters, parse_retry_after
from keyturn.exchanges.transmission import Transmission
from keyturn.metrics import Metrics

_MAX_BODY_BYTES, _SMALL_BODY_BYTES = 64 * 1024, 8 * 1024
# With aiohttp's default limits, a long cookie or policy in a header would lose the token in the body.
_HEADER_LIMITS: Mapping[str, Any] = {"max_line_size": 64 * 1024, "max_field_size": 64 * 1024, "max_headers": 1000}
# How much longer than its own timeout a thread may take before its caller stops waiting.
_MARGIN_SECONDS = 2
_OVERDUE_WAIT, _SHARE_WAIT = timedelta(seconds=15), timedelta(seconds=1)
# Characters that a query (RFC 3986 section 3.4) may contain besides letters and digits, and those of an escape.
_QUERY = "!$&'()*+,;=:@/?-._~%"
_FORM = "application/x-www-form-urlencoded"
# A token response has far fewer.
_MAX_FORM_FIELDS = 100
# No white space, quotes, braces or angle brackets: they would be percent-encoded.
_FORM_TEXT = re.compile(r"[!#-;=?-\[\]-z|~]+")
# The alerts of RFC 8446 section 6.2 about the client's certificate, or about the lack of one.
_HANDSHAKE_ALERT = re.compile(r"_ALERT_(.*CERTIFICATE.*|UNKNOWN_CA|ACCESS_DENIED|HANDSHAKE_FAILURE)$")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Form:
    """A form to send to `url`; a field may occur more than once. `trusted` replaces the default CA certificates.

    `consumes_token`: a lost response leaves the outcome unknown. `namespace` is that of the TokenRequest.
    """

    url: str
    fields: Sequence[tuple[str, str]] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    trusted: ssl.SSLContext | None = None
    consumes_token: bool = True
    namespace: str = ""

    @property
    def host(self) -> str:
        """The host that the URL is connected to; raises RefusedError (InvalidSpec) if there is none.

        It comes from yarl, as in aiohttp: Python's own codec for IDNA maps a name to another one (faß.de to fass.de).
        """
        try:
            url = URL(self.url)
            host = canonical_host(url.raw_host or "") if url.host and url.port and url.user is None else None
        except (ValueError, IndexError):  # yarl raises IndexError for https://:;][x@
            host = None
        if host is None:
            raise RefusedError("InvalidSpec", "tokenUrl is not a valid URL: it has no host name or IP address")
        return host


@dataclass(frozen=True, slots=True)
class IssuerRequest:
    """An encoded form, for a host that the settings allow, and the proxy to send it through."""

    form: Form = field(repr=False)
    host: str
    url: URL
    body: bytes = field(repr=False)
    proxy: Proxy | None = None


@dataclass(frozen=True, slots=True)
class IssuerResponse:
    """The response of an issuer. `members` is None if the body is neither a JSON object nor a form.

    `requested_at` is the time of the request in whole seconds, `skew` the issuer's clock minus the local clock.
    """

    host: str
    status: int
    members: Mapping[str, Any] | None = field(repr=False)
    retry_after: timedelta
    requested_at: datetime
    skew: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class _Received:
    """A response with its body, which is not decoded yet, and the error that interrupted the body."""

    response: IssuerResponse
    body: bytes = field(repr=False)
    content_type: str = field(repr=False)
    interruption: Exception | None = None

    def members(self) -> Mapping[str, Any] | None:
        """Decode a JSON object, whatever the content type, or a form; None for anything else."""
        members = decode_response(self.body)
        is_complete = self.interruption is None
        if members is None and is_complete and (self.content_type == _FORM or b"access_token=" in self.body):
            return _decode_form(self.body)
        return members


class IssuerClient:
    """HTTP client for issuers, with threads for `workers` workers. A request fails after `timeout_seconds`.

    `resume` is called with the uid of a TokenRequest and the time when a request that `reserve` rejected can be sent,
    and returns False if the TokenRequest does not exist.
    """

    def __init__(  # noqa: PLR0913 - they are independent
        self,
        settings: IssuerSettings,
        metrics: Metrics,
        now: Callable[[], datetime],
        service_health: ServiceHealth,
        *,
        proxies: Proxies = NO_PROXIES,
        timeout_seconds: float = 10,
        workers: int = 16,
        resume: Callable[[str, datetime], bool] = lambda _uid, _now: True,
    ) -> None:
        self._settings = settings
        proxies = proxies.with_override(settings.proxy, "issuers.proxy")
        # A proxy connects to any host: without a list of allowed hosts, any tenant could explore the proxy's network.
        self._proxies, self._unused_proxies = (proxies, NO_PROXIES) if settings.allowed_hosts else (NO_PROXIES, proxies)
        self._timeout_seconds = timeout_seconds
        self._threads = IssuerThreads(workers)
        self.cpu_limiter = CpuLimiter()
        self._service_health = service_health
        self._metrics = metrics
        self._now = now
        self._limiters = ConcurrencyLimiters(settings.max_concurrent_requests, lambda uid: resume(uid, now()))

    def close(self) -> None:
        """Stop the threads."""
        self._threads.close()

    def now(self) -> datetime:
        """Return the current time, for signatures."""
        return self._now()

    @contextmanager
    def reserve(self, token_url: str, namespace: str, uid: str, pause: timedelta = timedelta()) -> Iterator[None]:
        """Reserve a slot for a request to an issuer while the block runs. `pause`: see ConcurrencyLimiter.acquire.

        Raises ThrottledError if too many requests are in progress, or if too many earlier ones of the namespace have
        not ended after their timeout, or occupy threads that other namespaces may need.

        This is not part of `post`, because an intent to consume a token is written before it, and waiting would occupy
        a worker. The limit is per token endpoint and not per host, where a tenant may know a page that never responds.
        """
        url = URL(token_url)
        if self._threads.is_overdue(namespace):
            message = "requests of this namespace to issuers that do not respond are still in progress"
            raise ThrottledError(message, retry_after=_OVERDUE_WAIT, nothing_sent=True)
        if not self._threads.has_share(namespace):
            message = "too many requests of this namespace to issuers are in progress"
            raise ThrottledError(message, retry_after=_SHARE_WAIT, nothing_sent=True)
        started, endpoint = time.monotonic(), (url.raw_host, url.port, url.raw_path)
        limiter = self._limiters.get(endpoint)
        wait_seconds = limiter.acquire(started, namespace, uid, pause.total_seconds())
        if wait_seconds:
            raise ThrottledError(
                f"{url.raw_host} is busy with other requests from Keyturn",
                retry_after=timedelta(seconds=wait_seconds),
                nothing_sent=True,
            )
        try:
            yield
        finally:
            ended = time.monotonic()
            limiter.release(ended, ended - started, namespace)
            self._limiters.drop_unused(ended)

    def prepare(self, form: Form) -> IssuerRequest:
        """Check the destination of a form, and encode it. Raises RefusedError (InvalidSpec) and UnavailableError."""
        host = form.host
        if not self._settings.is_allowed(host):
            raise RefusedError(
                "InvalidSpec", f"the operator's settings (issuers.allowedHosts) do not allow the host {host}"
            )
        # yarl would decode escapes in the query, but an issuer may compare the query as it is written.
        base, mark, query = form.url.partition("?")
        url = URL(f"{URL(base)}{mark}{quote(query, safe=_QUERY)}", encoded=True)
        proxy = self._proxies.for_url(str(url))
        if proxy is None and not AddressFilter(self._settings).is_allowed_host(host):
            raise self._unreachable(host, url)
        return IssuerRequest(form, host, url, urlencode(form.fields).encode(), proxy)

    async def post(self, exchange: str, request: IssuerRequest, transmission: Transmission) -> IssuerResponse:
        """Send a request once. Raises UnavailableError, with `outcome_unknown` if a token may have been consumed."""
        host = request.host
        started, code = time.monotonic(), "cancelled"
        try:
            response = await self._decode(request, await self._send_in_thread(request, transmission))
            code = "OK" if response.status in range(200, 300) else "other"
        except KeyturnError as error:
            code = "other"
            if isinstance(error, UnavailableError):
                self._service_health.failed(host)
            raise
        finally:
            self._metrics.exchanges.labels(exchange, code).inc()
            self._metrics.exchange_duration.labels(exchange).observe(time.monotonic() - started)
        self._service_health.worked(host, time.monotonic())
        return response

    def throttled(self) -> None:
        """Count a throttled request. The host is not a label, because users choose it."""
        self._metrics.throttled.labels("oauth").inc()

    async def _decode(self, request: IssuerRequest, received: _Received) -> IssuerResponse:
        """Decode the body of a response, which takes up to 20 ms and 5 MiB; for a usual response, at most 2 ms.

        The thread of the request does not do this, because its priority is low. While handshakes of other issuers keep
        the processor busy, it could take so long that a token is lost although it was received in time.
        """
        is_small, run = len(received.body) <= _SMALL_BODY_BYTES, self.cpu_limiter.run
        members = received.members() if is_small else await run(request.form.namespace, received.members)
        if members is None and received.interruption:
            raise _incomplete(request, received.interruption)
        return replace(received.response, members=members)

    async def _send_in_thread(self, request: IssuerRequest, transmission: Transmission) -> _Received:
        send = functools.partial(self._send, request, transmission)
        try:
            return await self._threads.run(request.form.namespace, send, self._timeout_seconds + _MARGIN_SECONDS)
        except TimeoutError as error:
            if not transmission.abandon():
                raise self._unreachable(request.host, request.url, error) from None
            raise _incomplete(request, error) from None

    async def _send(self, request: IssuerRequest, transmission: Transmission) -> _Received:
        requested_at, form, host, proxy = whole_seconds(self._now()), request.form, request.host, request.proxy
        sockets: list[BoundedSocket] = []
        try:
            async with (
                self._session(request, transmission, sockets) as session,
                session.post(
                    request.url,
                    data=request.body,
                    headers=form.headers,
                    allow_redirects=False,
                    proxy=proxy.url if proxy else None,
                    proxy_headers=proxy.headers if proxy else None,
                ) as response,
            ):
                received_at = self._now()
                skew = measure_skew(response.headers.get("Date"), received_at)
                wait = parse_retry_after(response.headers.get("Retry-After", ""), received_at + skew)
                # Not response.content_type: aiohttp also parses the parameters; 64 KiB of semicolons take 20 s.
                content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                body, interruption = await _read_body(response)
                head = IssuerResponse(host, response.status, None, wait, requested_at, skew)
                return _Received(head, body, content_type, interruption)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            drop_frames(error)
            is_unsent = any(each.has_sent_nothing for each in sockets)
            if not transmission.has_begun or is_unsent or _is_handshake_refused(error):
                raise self._unreachable(host, request.url, error) from None
            raise _incomplete(request, error) from None
        except ValueError:
            if transmission.has_begun:
                raise
            raise RefusedError("InvalidSpec", "tokenUrl is not a valid URL") from None
        finally:
            for each in sockets:
                each.end()

    def _unreachable(self, host: str, url: URL, error: Exception | None = None) -> UnavailableError:
        # One message for DNS, TLS, a closed port and a forbidden address: it must not help to explore a network. Only
        # the log, which tenants cannot read, shows the cause.
        _log.warning("%s could not be reached: %s", host, _cause(error))
        message = f"{host} could not be reached"
        if self._unused_proxies.for_url(str(url)):
            message += " directly; the proxy of the environment is used only if issuers.allowedHosts is set"
        # This response is the same for each host, so it reveals nothing. A proxy's other responses depend on the host.
        if isinstance(error, aiohttp.ClientHttpProxyError) and error.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            message += ": the proxy refused the credentials of HTTPS_PROXY (HTTP 407)"
        return UnavailableError("Unreachable", message, service=host)

    def _session(
        self, request: IssuerRequest, transmission: Transmission, sockets: list[BoundedSocket]
    ) -> aiohttp.ClientSession:
        """Create a session, which begins the transmission once there is a connection to the issuer itself.

        Before that, no token can have reached the issuer. Exceptions do not show this: a proxy that hangs up causes the
        same one as an issuer that has received a token. The sockets of the session are added to `sockets`.
        """

        async def begin(*_: object) -> None:
            transmission.begin()
            for each in sockets:
                each.end_handshake()

        def open_socket(address_info: aiohttp.AddrInfoType) -> BoundedSocket:
            # The filter does not apply to a proxy, which resolves the host itself.
            is_filtered = request.proxy is None
            opened = (AddressFilter(self._settings).open_socket if is_filtered else open_bounded_socket)(address_info)
            sockets.append(opened)
            return opened

        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(begin)
        trace.on_connection_reuseconn.append(begin)
        # No keep-alive: a connection that the issuer has just closed would look like a lost response.
        connector = aiohttp.TCPConnector(
            socket_factory=open_socket,
            ssl=request.form.trusted or True,
            force_close=True,
            use_dns_cache=False,
        )
        return aiohttp.ClientSession(
            connector=connector,
            trace_configs=[trace],
            timeout=aiohttp.ClientTimeout(total=self._timeout_seconds, connect=5, sock_connect=5),
            **_HEADER_LIMITS,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/json", "User-Agent": "keyturn", "Content-Type": _FORM},
        )


def _incomplete(request: IssuerRequest, error: Exception) -> UnavailableError:
    message = f"{request.host} returned no complete response ({type(error).__name__})"
    return UnavailableError("Unreachable", message, service=request.host, outcome_unknown=request.form.consumes_token)


def _is_handshake_refused(error: Exception) -> bool:
    """Whether the server refused the TLS handshake, for example because it requires a client certificate.

    In TLS 1.3, a client learns that only after it has sent its request, which the server has not read.
    """
    cause = error.__cause__
    return isinstance(cause, ssl.SSLError) and _HANDSHAKE_ALERT.search(cause.reason or "") is not None


async def _read_body(response: aiohttp.ClientResponse) -> tuple[bytes, Exception | None]:
    """Read a body, and return it with the error that interrupted it; empty if it has more than 64 KiB.

    If the connection breaks or times out after a complete object, the object is used: it may contain a token.
    """
    body = b""
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > _MAX_BODY_BYTES:
                return b"", None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        drop_frames(error)
        return body, error
    return body, None


def _decode_form(body: bytes) -> dict[str, Any] | None:
    try:
        text = body.decode("ascii").strip()
        fields = parse_qsl(
            text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=_MAX_FORM_FIELDS
        )
    except ValueError:
        return None
    # The pattern excludes an HTML page with a link that contains a token.
    return dict(fields) if _FORM_TEXT.fullmatch(text) else None


def _cause(error: BaseException | None) -> str:
    """Describe why there is no connection, and the setting that helps. Never the URL, whose query may be secret."""
    # If all addresses of a name failed, asyncio joins their messages in one error.
    if error is None or NOT_ALLOWED in str(error.__cause__):
        return "its address is not public and not in issuers.allowedPrivateNetworks"
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({cause.verify_message}); caBundleFrom trusts another CA"
    if isinstance(cause, socket.gaierror):
        return f"its name cannot be resolved ({cause.strerror})"
    return getattr(cause, "strerror", None) or type(error).__name__
