import ipaddress

import pytest

from keyturn.core.settings import IssuerSettings
from keyturn.exchanges.ssrf import Resolver


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        pytest.param("203.0.114.1", True, id="a global one"),
        pytest.param("2606:4700::1", True, id="a global one of IPv6"),
        pytest.param("::ffff:203.0.114.1", True, id="a global one in an IPv6 one"),
        pytest.param("64:ff9b::203.0.114.1", True, id="a global one by NAT64"),
        pytest.param("10.0.0.1", False, id="a private one"),
        pytest.param("172.31.0.1", False, id="a private one of 172.16/12"),
        pytest.param("192.168.0.1", False, id="a private one of 192.168/16"),
        pytest.param("100.64.0.1", False, id="of a carrier's NAT"),
        pytest.param("127.0.0.1", False, id="loopback"),
        pytest.param("0.0.0.0", False, id="no address"),  # noqa: S104 - nothing is bound to it
        pytest.param("255.255.255.255", False, id="everybody"),
        pytest.param("224.0.0.1", False, id="a group"),
        pytest.param("169.254.169.254", False, id="AWS's metadata"),
        pytest.param("168.63.129.16", False, id="Azure's, which is global"),
        pytest.param("::1", False, id="loopback of IPv6"),
        pytest.param("::", False, id="no address of IPv6"),
        pytest.param("::10.0.0.1", False, id="an IPv4-compatible one"),
        pytest.param("::ffff:10.0.0.1", False, id="a private one in an IPv6 one"),
        pytest.param("::ffff:169.254.169.254", False, id="metadata in an IPv6 one"),
        pytest.param("64:ff9b::10.0.0.1", False, id="a private one by NAT64"),
        pytest.param("64:ff9b::169.254.169.254", False, id="metadata by NAT64"),
        pytest.param("64:ff9b:1::1", False, id="a network's own NAT64"),
        pytest.param("2002:a00:1::", False, id="a private one by 6to4"),
        pytest.param("fd00:ec2::254", False, id="AWS's metadata of IPv6"),
        pytest.param("fc00::1", False, id="a private one of IPv6"),
        pytest.param("fec0::1", False, id="a site's own of IPv6"),
        pytest.param("fe80::1", False, id="a link's own of IPv6"),
        pytest.param("ff02::1", False, id="a group of IPv6"),
    ],
)
def test_which_addresses_may_be_spoken_to(address: str, *, allowed: bool) -> None:
    assert Resolver(IssuerSettings()).allows(ipaddress.ip_address(address)) is allowed


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        pytest.param("10.1.2.3", True, id="in a network that is listed"),
        pytest.param("::ffff:10.1.2.3", True, id="the same in an IPv6 one"),
        pytest.param("fd12::1", True, id="in a network of IPv6"),
        pytest.param("10.2.0.1", False, id="beside it"),
        pytest.param("169.254.169.254", False, id="metadata, though it is listed"),
        pytest.param("fd00:ec2::254", False, id="metadata of IPv6, though it is listed"),
        pytest.param("fd20:ce::254", False, id="Google's metadata, though it is listed"),
        pytest.param("100.100.100.200", False, id="Alibaba's metadata, though it is listed"),
    ],
)
def test_private_networks_that_the_settings_list(address: str, *, allowed: bool) -> None:
    listed = ("10.1.0.0/16", "fc00::/7", "169.254.0.0/16", "100.64.0.0/10")

    assert Resolver(IssuerSettings(allowed_private_networks=listed)).allows(ipaddress.ip_address(address)) is allowed


@pytest.mark.parametrize("everything", ["0.0.0.0/0", "::/0"])
@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "168.63.129.16"])
def test_metadata_is_never_spoken_to(address: str, everything: str) -> None:
    assert not Resolver(IssuerSettings(allowed_private_networks=(everything,))).allows(ipaddress.ip_address(address))
