"""HTTP requests and responses as handlers see them, and their form on the wire."""

from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus

import h11

METHODS = (b"GET", b"HEAD")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request without its body. The names of headers are in lower case."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a header, in the order in which they were sent."""
        return [value for header, value in self.headers if header == name]

    @property
    def has_body(self) -> bool:
        """Whether a body follows. No handler reads it."""
        length = b"".join(self.values(b"content-length"))
        return bool(self.values(b"transfer-encoding") or length.strip(b"0"))


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response that is never cached."""

    status: int
    body: bytes = field(repr=False)
    content_type: bytes = b"text/plain; charset=utf-8"


def encode(http: h11.Connection, response: HttpResponse, *, is_last: bool, without_body: bool = False) -> bytes:
    """Return the bytes of a response. `is_last` announces that the connection will be closed."""
    parts = [http.send(_head(response.status, response.content_type, len(response.body), is_last=is_last))]
    if not without_body:
        parts.append(http.send(h11.Data(data=response.body)))
    parts.append(http.send(h11.EndOfMessage()))
    return b"".join(part for part in parts if part)


# Only a few different heads are sent, and h11 validates every header of a new one.
@lru_cache(maxsize=64)
def _head(status: int, content_type: bytes, length: int, *, is_last: bool) -> h11.Response:
    headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % length),
        (b"cache-control", b"no-store"),
    ]
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append((b"allow", b"GET, HEAD"))
    if is_last:
        headers.append((b"connection", b"close"))
    return h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode())
