"""A socket for connections to issuers, which receives a limited number of bytes."""

import socket
from contextlib import suppress
from typing import Any

from aiohttp import AddrInfoType

# Before the end of the TLS handshake. Long chains have 10 KiB; some servers add a list of the CAs that they trust.
_HANDSHAKE_BYTES = 32 * 1024
# The largest body, and twice as much for TLS, headers and the encoding of the body.
MAX_RECEIVED_BYTES = 192 * 1024


class BoundedSocket(socket.socket):
    """Fails after a limited number of bytes, which are counted below TLS.

    A limit on the body does not bound the work: interim responses, extensions of chunks and empty members of gzip are
    not part of it. A few MB of them per second would keep a processor busy.
    """

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        super().__init__(family, kind, protocol)
        self._remaining = _HANDSHAKE_BYTES

    def end_handshake(self) -> None:
        """Allow MAX_RECEIVED_BYTES from now on."""
        self._remaining = MAX_RECEIVED_BYTES

    def end(self) -> None:
        """End the connection without waiting for the peer, whose part in the end of TLS may never come."""
        with suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive at most the remaining bytes; raises ConnectionAbortedError if there are none."""
        received = super().recv(min(size, self._limit()), flags)
        self._remaining -= len(received)
        return received

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0, /) -> int:
        """Receive at most the remaining bytes into a buffer; raises ConnectionAbortedError if there are none."""
        received = super().recv_into(buffer, min(size or len(buffer), self._limit()), flags)
        self._remaining -= received
        return received

    def _limit(self) -> int:
        if self._remaining <= 0:
            raise ConnectionAbortedError("the response is too large")
        return self._remaining


def open_bounded_socket(address_info: AddrInfoType) -> BoundedSocket:
    """Open a socket for aiohttp, not yet connected."""
    family, kind, protocol, *_ = address_info
    return BoundedSocket(family, kind, protocol)
