"""Which addresses an issuer may have: none of the network that we stand in, but those that the settings list."""

import asyncio
import ipaddress
import socket

from aiohttp.abc import AbstractResolver, ResolveResult

from keyturn.core.errors import UnavailableError
from keyturn.core.settings import IssuerSettings

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
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Resolver(AbstractResolver):
    """Resolves a host, and hands out only addresses that may be spoken to: aiohttp connects to just these.

    To check the name and let it be resolved a second time would let an attacker answer differently.
    """

    def __init__(self, settings: IssuerSettings) -> None:
        self._networks = tuple(ipaddress.ip_network(network) for network in settings.allowed_private_networks)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolve for aiohttp; raises OSError where no address may be spoken to."""
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
            raise UnavailableError("Unreachable", f"{host} could not be reached", service=host)

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
