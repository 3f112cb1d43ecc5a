"""The container-credentials endpoint that AWS SDKs ask, and the probes beside it.

The metrics that are told here, by hand since a client library would weigh more than all the rest:
keyturn_sidecar_requests_total{code}, keyturn_sidecar_credentials_expiration_timestamp_seconds.
"""

import asyncio
import hmac
import json
import logging
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

from keyturn.sidecar.connection import Answer, Asked
from keyturn.sidecar.credential_cache import Held, UnservableError
from keyturn.sidecar.listener import Listener, NotListeningError

_JSON = b"application/json"
_EXPOSITION = b"text/plain; version=0.0.4; charset=utf-8"
_METHODS = (b"GET", b"HEAD")
# By these names SDKs ask; a browser that was led here by a name of somebody else's says that name.
_HOST = re.compile(rb"(localhost|127(\.\d{1,3}){3}|\[::1\]|169\.254\.170\.(2|23))(:\d{1,5})?", re.IGNORECASE)
_FORWARDED = re.compile(rb"forwarded|via|x-forwarded-.*")
_TOLD_AGAIN = timedelta(minutes=1)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listening:
    """Where to listen, each as HOST:PORT with an address for the host; port 0 takes a free one, nothing none."""

    credentials: str
    probes: str


def no_metrics() -> bytes:
    """Say nothing beyond what the endpoint counts itself."""
    return b""


@asynccontextmanager
async def serving(
    listening: Listening, held: Held, authorization: str, metrics: Callable[[], bytes] = no_metrics
) -> AsyncIterator[Listening]:
    """Serve what is held as long as the block runs; gives the addresses with their real ports.

    Credentials are given on loopback only, to those who show `authorization`. Beside the endpoint stand /healthz,
    /readyz (whether there is something valid to serve) and /metrics: the endpoint's own, then what `metrics`
    gives in the text format of Prometheus. At the end nothing more is accepted, what was asked before is
    answered, and that takes two seconds at most. Raises NotListeningError where a port cannot be had.
    """
    counts: Counter[int] = Counter()
    endpoint = Listener(_Credentials(held, authorization.encode(), counts))
    probes = Listener(_Probes(held, counts, metrics))
    try:
        given, probed = listening.credentials, listening.probes
        found = Listening(
            await endpoint.listen(*_loopback(given)) if given else "",
            await probes.listen(*_address(probed)) if probed else "",
        )
        if given:
            _log.info("giving credentials on %s", found.credentials)
        if probed:
            _log.info("listening on %s", found.probes)
        yield found
    finally:
        await asyncio.gather(endpoint.close(), probes.close())


def _address(listen: str) -> tuple[str, int]:
    """Take HOST:PORT apart; no host means every address, of IPv4 and of IPv6."""
    host, colon, port = listen.rpartition(":")
    if not (colon and port.isdecimal() and int(port) <= 0xFFFF):  # noqa: PLR2004 - the highest port
        raise NotListeningError(f"cannot listen on {listen}: it is not HOST:PORT")
    return host.strip("[]"), int(port)


def _loopback(listen: str) -> tuple[str, int]:
    host, port = _address(listen)
    if host != "::1" and not _is_loopback(host):
        raise NotListeningError(f"cannot give credentials on {listen}: only on 127.0.0.1 or another loopback address")
    return host, port


def _is_loopback(host: str) -> bool:
    try:
        return socket.inet_pton(socket.AF_INET, host)[0] == 127  # noqa: PLR2004 - 127.0.0.0/8
    except OSError:
        return False


class _Credentials:
    """What SDKs ask for, by GET of any path: one pod, one identity."""

    def __init__(self, held: Held, authorization: bytes, counts: Counter[int]) -> None:
        self._held = held
        self._authorization = authorization
        self._counts = counts
        self._told: dict[int, datetime] = {}

    def answer(self, asked: Asked) -> Answer:
        """Give the credentials, or say why not."""
        if _is_foreign(asked):
            return self.wrong(403, "credentials are given to this pod only: no proxy, no other name of the host")
        if asked.method not in _METHODS:
            return self.wrong(405, "only GET")
        if not self._is_authorized(asked):
            return self.wrong(401, "the header Authorization is not the token in the authorization file")
        try:
            document = self._held.document()
        except UnservableError as error:
            return self._refusal(503, str(error))  # who holds nothing has logged why
        self._counts[200] += 1
        return Answer(200, document, _JSON)

    def wrong(self, status: int, message: str) -> Answer:
        """Refuse, in the form that SDKs show to people; logged too: of five SDKs two show it."""
        now = self._held.now()
        if status not in self._told or abs(now - self._told[status]) >= _TOLD_AGAIN:
            self._told[status] = now
            _log.warning("refused a request with %d: %s", status, message)
        return self._refusal(status, message)

    def _refusal(self, status: int, message: str) -> Answer:
        self._counts[status] += 1
        code = HTTPStatus(status).phrase.replace(" ", "")
        return Answer(status, json.dumps({"code": code, "message": message}).encode(), _JSON)

    def _is_authorized(self, asked: Asked) -> bool:
        shown = asked.values(b"authorization")
        return len(shown) == 1 and hmac.compare_digest(shown[0], self._authorization)


def _is_foreign(asked: Asked) -> bool:
    """Whether it came by a proxy, or by a name that is none of loopback's."""
    return (
        not asked.target.startswith(b"/")
        or not _HOST.fullmatch(b"".join(asked.values(b"host")))
        or any(_FORWARDED.fullmatch(name) for name, _ in asked.headers)
    )


class _Probes:
    """What the kubelet and Prometheus ask for."""

    def __init__(self, held: Held, counts: Counter[int], metrics: Callable[[], bytes]) -> None:
        self._held = held
        self._counts = counts
        self._metrics = metrics
        self._paths = {b"/healthz": self._healthz, b"/readyz": self._readyz, b"/metrics": self._exposition}

    def answer(self, asked: Asked) -> Answer:
        """Answer by the path."""
        made = self._paths.get(asked.target.partition(b"?")[0])
        if made is None:
            return self.wrong(404, "there are /healthz, /readyz and /metrics")
        return made() if asked.method in _METHODS else self.wrong(405, "only GET")

    def wrong(self, status: int, message: str) -> Answer:
        """Refuse in a line."""
        return Answer(status, f"{message}\n".encode())

    def _healthz(self) -> Answer:
        return Answer(200, b"ok\n")

    def _readyz(self) -> Answer:
        try:
            self._held.document()
        except UnservableError as error:
            return self.wrong(503, str(error))
        return Answer(200, b"ok\n")

    def _exposition(self) -> Answer:
        name = "keyturn_sidecar_requests_total"
        lines = [f"# HELP {name} Answers of the endpoint by their status.", f"# TYPE {name} counter"]
        lines += [f'{name}{{code="{code}"}} {number}' for code, number in sorted(self._counts.items())]
        if self._held.served:
            name = "keyturn_sidecar_credentials_expiration_timestamp_seconds"
            lines += [f"# HELP {name} When the credentials that are held expire.", f"# TYPE {name} gauge"]
            lines += [f"{name} {self._held.served.expires_at.timestamp():.0f}"]
        return Answer(200, "".join(f"{line}\n" for line in lines).encode() + self._metrics(), _EXPOSITION)
