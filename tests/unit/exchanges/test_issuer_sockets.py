import ipaddress
import socket

import pytest

from keyturn.core.settings import IssuerSettings
from keyturn.exchanges.issuer_sockets import AddressFilter, BoundedSocket


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        pytest.param("203.0.114.1", True, id="a public address"),
        pytest.param("2606:4700::1", True, id="a public IPv6 address"),
        pytest.param("::ffff:203.0.114.1", True, id="a public address, IPv4-mapped"),
        pytest.param("64:ff9b::203.0.114.1", True, id="a public address behind NAT64"),
        pytest.param("10.0.0.1", False, id="a private address"),
        pytest.param("172.31.0.1", False, id="a private address in 172.16/12"),
        pytest.param("192.168.0.1", False, id="a private address in 192.168/16"),
        pytest.param("100.64.0.1", False, id="carrier-grade NAT"),
        pytest.param("127.0.0.1", False, id="loopback"),
        pytest.param("0.0.0.0", False, id="the unspecified address"),  # noqa: S104 - nothing is bound to it
        pytest.param("255.255.255.255", False, id="broadcast"),
        pytest.param("224.0.0.1", False, id="multicast"),
        pytest.param("169.254.169.254", False, id="metadata of AWS"),
        pytest.param("168.63.129.16", False, id="metadata of Azure, a public address"),
        pytest.param("::1", False, id="IPv6 loopback"),
        pytest.param("::", False, id="the unspecified IPv6 address"),
        pytest.param("::10.0.0.1", False, id="an IPv4-compatible address"),
        pytest.param("::ffff:10.0.0.1", False, id="a private address, IPv4-mapped"),
        pytest.param("::ffff:169.254.169.254", False, id="metadata, IPv4-mapped"),
        pytest.param("64:ff9b::10.0.0.1", False, id="a private address behind NAT64"),
        pytest.param("64:ff9b::169.254.169.254", False, id="metadata behind NAT64"),
        pytest.param("64:ff9b:1::1", False, id="local NAT64 (RFC 8215)"),
        pytest.param("2002:a00:1::", False, id="a private address in 6to4"),
        pytest.param("fd00:ec2::254", False, id="IPv6 metadata of AWS"),
        pytest.param("fc00::1", False, id="a private IPv6 address"),
        pytest.param("fec0::1", False, id="IPv6 site-local"),
        pytest.param("fe80::1", False, id="IPv6 link-local"),
        pytest.param("ff02::1", False, id="IPv6 multicast"),
    ],
)
def test_allowed_addresses(address: str, *, allowed: bool) -> None:
    assert AddressFilter(IssuerSettings()).is_allowed(ipaddress.ip_address(address)) is allowed


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        pytest.param("10.1.2.3", True, id="in an allowed network"),
        pytest.param("::ffff:10.1.2.3", True, id="in an allowed network, IPv4-mapped"),
        pytest.param("fd12::1", True, id="in an allowed IPv6 network"),
        pytest.param("10.2.0.1", False, id="outside of the allowed network"),
        pytest.param("169.254.169.254", False, id="metadata in an allowed network"),
        pytest.param("fd00:ec2::254", False, id="IPv6 metadata in an allowed network"),
        pytest.param("fd20:ce::254", False, id="metadata of Google in an allowed network"),
        pytest.param("100.100.100.200", False, id="metadata of Alibaba in an allowed network"),
    ],
)
def test_allowed_private_networks(address: str, *, allowed: bool) -> None:
    networks = ("10.1.0.0/16", "fc00::/7", "169.254.0.0/16", "100.64.0.0/10")

    assert (
        AddressFilter(IssuerSettings(allowed_private_networks=networks)).is_allowed(ipaddress.ip_address(address))
        is allowed
    )


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0"])
@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "168.63.129.16"])
def test_instance_metadata_is_never_allowed(address: str, network: str) -> None:
    assert not AddressFilter(IssuerSettings(allowed_private_networks=(network,))).is_allowed(
        ipaddress.ip_address(address)
    )


def test_failure_to_send_during_the_handshake_proves_nothing() -> None:
    """Another address of the same name may have worked, and received the request."""
    with BoundedSocket(socket.AF_INET, socket.SOCK_STREAM, 0) as unconnected:
        with pytest.raises(OSError, match="Broken pipe"):
            unconnected.send(b"hello")
        unconnected.end_handshake()

        assert not unconnected.has_sent_nothing


@pytest.mark.parametrize("is_buffered", [False, True])
def test_response_is_received_in_small_pieces(*, is_buffered: bool) -> None:
    """Between two pieces, other threads continue."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        BoundedSocket(socket.AF_INET, socket.SOCK_STREAM, 0) as bounded,
    ):
        bounded.connect(server.getsockname())
        bounded.end_handshake()
        with server.accept()[0] as accepted:
            accepted.sendall(b"x" * 50_000)
        received = bounded.recv_into(bytearray(50_000)) if is_buffered else len(bounded.recv(50_000))

    assert 0 < received <= 8 * 1024
