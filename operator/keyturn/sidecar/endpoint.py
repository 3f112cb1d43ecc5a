"""The container credentials endpoint that AWS SDKs call, and the probes and metrics on a second port.

The endpoint's own metrics, keyturn_sidecar_requests_total{code} and
keyturn_sidecar_credentials_expiration_timestamp_seconds, are formatted by hand, because a client library would use more
memory than the rest of the sidecar.
"""

import asyncio
import hmac
import json
import logging
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

from keyturn.sidecar.credential_cache import CredentialCache, NoCredentialsError
from keyturn.sidecar.http_server import METHODS, BindError, HttpRequest, HttpResponse, HttpServer, split_address
from keyturn.sidecar.probes import ProbesHandler

_JSON = b"application/json"
# SDKs use these hosts. In a DNS rebinding attack, a browser sends the attacker's host name.
_HOST = re.compile(rb"(localhost|127(\.\d{1,3}){3}|\[::1\]|169\.254\.170\.(2|23))(:\d{1,5})?", re.IGNORECASE)
_FORWARDED = re.compile(rb"forwarded|via|x-forwarded-.*")
_LOG_INTERVAL = timedelta(minutes=1)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ListenAddresses:
    """Addresses to listen on, as HOST:PORT with an IP address as host. Port 0 selects a free port; "" means none."""

    credentials: str
    probes: str


@asynccontextmanager
async def serve_endpoint(
    addresses: ListenAddresses,
    cache: CredentialCache,
    token: str,
    metrics: Callable[[], Awaitable[bytes]] | None = None,
) -> AsyncIterator[ListenAddresses]:
    """Serve the cached credentials while the block runs; yields the addresses with the actual ports.

    Credentials are served on loopback only, to clients that send `token`. The second port serves /healthz, /readyz
    (200 while there are valid credentials) and /metrics: the endpoint's own metrics and the output of `metrics`,
    in the Prometheus text format. When the block ends, no new connections are accepted, requests that were already sent
    are completed, and all connections are closed within two seconds. Raises BindError if a port cannot be opened.
    """
    counts: Counter[int] = Counter()
    endpoint = HttpServer(_CredentialsHandler(cache, token.encode(), counts))

    async def all_metrics() -> bytes:
        return _exposition(cache, counts) + (await metrics() if metrics else b"")

    probes = HttpServer(ProbesHandler(cache.why_unavailable, all_metrics))
    try:
        bound_addresses = ListenAddresses(
            await endpoint.listen(*_split_loopback(addresses.credentials)) if addresses.credentials else "",
            await probes.listen(*split_address(addresses.probes)) if addresses.probes else "",
        )
        if bound_addresses.credentials:
            _log.info("serving credentials on %s", bound_addresses.credentials)
        if bound_addresses.probes:
            _log.info("serving probes and metrics on %s", bound_addresses.probes)
        yield bound_addresses
    finally:
        await asyncio.gather(endpoint.close(), probes.close())


def _split_loopback(address: str) -> tuple[str, int]:
    host, port = split_address(address)
    try:
        is_loopback = host == "::1" or socket.inet_pton(socket.AF_INET, host)[0] == 127  # noqa: PLR2004 - 127.0.0.0/8
    except OSError:
        is_loopback = False
    if not is_loopback:
        raise BindError(
            f"cannot serve credentials on {address}: the host must be 127.0.0.1 or another loopback address"
        )
    return host, port


class _CredentialsHandler:
    """Serves the credentials on every path, because a pod has one identity."""

    def __init__(self, cache: CredentialCache, token: bytes, counts: Counter[int]) -> None:
        self._cache = cache
        self._token = token
        self._counts = counts
        self._logged_at: dict[int, datetime] = {}

    async def respond(self, http_request: HttpRequest) -> HttpResponse:
        """Return the credentials or an error document."""
        host = b"".join(http_request.values(b"host"))
        is_forwarded = any(_FORWARDED.fullmatch(name) for name, _ in http_request.headers)
        if is_forwarded or not http_request.target.startswith(b"/") or not _HOST.fullmatch(host):
            return self.error(403, "requests through a proxy or with a Host that is not loopback are not allowed")
        if http_request.method not in METHODS:
            return self.error(405, "only GET is allowed")
        tokens = http_request.values(b"authorization")
        if len(tokens) != 1 or not hmac.compare_digest(tokens[0], self._token):
            return self.error(401, "the Authorization header does not match the token in the authorization file")
        try:
            document = self._cache.document()
        except NoCredentialsError as error:
            return self._refuse(503, str(error))  # already logged by the code that could not publish credentials
        self._counts[200] += 1
        return HttpResponse(200, document, _JSON)

    def error(self, status: int, message: str) -> HttpResponse:
        """Return an error document and log it, because only two of five SDKs report it to their users."""
        now = self._cache.now()
        if status not in self._logged_at or abs(now - self._logged_at[status]) >= _LOG_INTERVAL:
            self._logged_at[status] = now
            _log.warning("refused a request with HTTP %d: %s", status, message)
        return self._refuse(status, message)

    def _refuse(self, status: int, message: str) -> HttpResponse:
        self._counts[status] += 1
        code = HTTPStatus(status).phrase.replace(" ", "")
        return HttpResponse(status, json.dumps({"code": code, "message": message}).encode(), _JSON)


def _exposition(cache: CredentialCache, counts: Counter[int]) -> bytes:
    name = "keyturn_sidecar_requests_total"
    lines = [f"# HELP {name} Responses of the credentials endpoint, by status code.", f"# TYPE {name} counter"]
    lines += [f'{name}{{code="{code}"}} {number}' for code, number in sorted(counts.items())]
    if cache.credentials:
        name = "keyturn_sidecar_credentials_expiration_timestamp_seconds"
        lines += [f"# HELP {name} Unix time at which the served credentials expire.", f"# TYPE {name} gauge"]
        lines += [f"{name} {cache.credentials.expires_at.timestamp():.0f}"]
    return "".join(f"{line}\n" for line in lines).encode()
