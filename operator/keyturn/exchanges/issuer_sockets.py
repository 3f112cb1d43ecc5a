"""Sockets for connections to issuers: only to allowed addresses, against SSRF, and for a limited number of bytes."""

import ipaddress
import socket
from contextlib import suppress
from typing import Any

from aiohttp import AddrInfoType

from keyturn.core.settings import IssuerSettings

# Before the end of the TLS handshake. Long chains have 10 KiB; some servers add a list of the CAs that they trust.
_HANDSHAKE_BYTES = 32 * 1024
# The largest body, and twice as much for TLS, headers and the encoding of the body.
MAX_RECEIVED_BYTES = 192 * 1024
# The most that is received at a time, so that no piece of a response takes long to parse.
_PIECE_BYTES = 8 * 1024
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# The instance metadata services of AWS, Azure, Alibaba, Oracle and Google: never allowed, even by the settings.
_METADATA = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32"),
        *("fe80::/10", "fd00:ec2::/32", "fd20:ce::/32"),
    )
)
# The IPv6 addresses that IANA allocates. Python's is_global is true for more than that.
_GLOBAL = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
NOT_ALLOWED = "the address is not allowed"


class BoundedSocket(socket.socket):
    """Fails after a limited number of bytes, which are counted below TLS.

    `has_sent_nothing` is True if the connection broke before the first byte after the handshake was sent.

    A limit on the body does not bound the work: interim responses, extensions of chunks and empty members of gzip are
    not part of it. A few MB of them per second would keep a processor busy.
    """

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        super().__init__(family, kind, protocol)
        self._remaining = _HANDSHAKE_BYTES
        self._has_sent = self.has_sent_nothing = False

    def end_handshake(self) -> None:
        """Allow MAX_RECEIVED_BYTES from now on."""
        self._remaining = MAX_RECEIVED_BYTES
        self._has_sent = self.has_sent_nothing = False

    def end(self) -> None:
        """Close the connection without waiting for the peer, which may never close its side of TLS."""
        with suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)

    def send(self, data: Any, flags: int = 0, /) -> int:
        """Send some of the bytes."""
        try:
            sent = super().send(data, flags)
        except BlockingIOError:
            # The event loop sends the bytes later, by another method.
            self._has_sent = True
            raise
        except OSError:
            self.has_sent_nothing = not self._has_sent
            raise
        self._has_sent = True
        return sent

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
        return min(self._remaining, _PIECE_BYTES)


def open_bounded_socket(address_info: AddrInfoType) -> BoundedSocket:
    """Open a socket for aiohttp, not yet connected."""
    family, kind, protocol, *_ = address_info
    return BoundedSocket(family, kind, protocol)


class AddressFilter:
    """Opens sockets for connections, and refuses addresses that are not allowed.

    The check is made on the address of the connection itself: after a check of the name, or of an earlier DNS response,
    an attacker could return another address.
    """

    def __init__(self, settings: IssuerSettings) -> None:
        self._networks = tuple(ipaddress.ip_network(network) for network in settings.allowed_private_networks)

    def open_socket(self, address_info: AddrInfoType) -> BoundedSocket:
        """Open a socket for aiohttp, not yet connected; raises OSError if the address is not allowed."""
        address = address_info[4]
        if not self.is_allowed(ipaddress.ip_address(str(address[0]).partition("%")[0])):
            raise OSError(None, NOT_ALLOWED)
        return open_bounded_socket(address_info)

    def is_allowed_host(self, host: str) -> bool:
        """Whether a request may be sent to the host of a URL. The addresses of a name are checked at the connection."""
        try:
            return self.is_allowed(ipaddress.ip_address(host))
        except ValueError:
            return True

    def is_allowed(self, address: _Address) -> bool:
        """Whether an issuer may have this address. An IPv4 address embedded in an IPv6 address is checked as IPv4."""
        if isinstance(address, ipaddress.IPv6Address):
            # NAT64 (RFC 6052), IPv4-mapped, or 6to4 (RFC 3056).
            nat64 = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
            embedded = nat64 or address.ipv4_mapped or address.sixtofour
            if embedded:
                return self.is_allowed(embedded)
        if any(address in network for network in _METADATA if network.version == address.version):
            return False
        is_listed = any(address in network for network in self._networks if network.version == address.version)
        is_allocated = address.version == 4 or address in _GLOBAL  # noqa: PLR2004 - IPv4
        return is_listed or (is_allocated and address.is_global and not address.is_multicast)
