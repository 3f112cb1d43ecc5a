"""Canonical host names, and the HTTP proxies through which hosts are connected to."""

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote_to_bytes, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LABEL = r"[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z)({_LABEL}\.)*{_LABEL}\.?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_HOST_AND_PORT = re.compile(r"\[(.*)\](?::([0-9]*))?|([^:]*):([0-9]*)")


def canonical_host(host: str) -> str | None:
    """Return the canonical form of an IP address, and a lower-case ASCII host name unchanged; None for anything else.

    A host whose last label is a number is an address (WHATWG URL, "ends in a number checker"): resolvers accept octal,
    hexadecimal and short forms, whose meaning differs between them.
    """
    if ":" in host or _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]):
        try:
            # An IPv6 zone has a meaning only on one machine.
            return None if "%" in host else str(ipaddress.ip_address(host))
        except ValueError:
            return None
    return host if _NAME.fullmatch(host) else None


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: its URL without credentials, and the value of the header Proxy-Authorization, empty if it needs none."""

    url: str
    authorization: str = field(default="", repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request to the proxy, in a new dict each time, because aiohttp adds headers to it."""
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}


def parse_proxy(text: str, name: str) -> Proxy:
    """Parse the URL of a proxy. Without a scheme it is http, as in curl and Go.

    User and password are percent-decoded. Raises ValueError, which names `name` and never quotes the text.
    """
    # A value from a Secret often ends with a newline.
    url = text.strip()
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        credentials, _, address = parts.netloc.rpartition("@")
        host = parts.hostname or ""
        is_valid = parts.scheme in _DEFAULT_PORTS and canonical_host(host) and parts.port != 0
    except ValueError:
        is_valid, host = False, ""
    if ":" in host and "%" in host:
        raise ValueError(f"{name} has an IPv6 address with a zone, which is not supported: use a host name or no zone")
    # An unescaped slash in the password would make the user name the host.
    if not is_valid or re.search(r"\s", url) or "@" in parts.path + parts.query + parts.fragment:
        raise ValueError(
            f"{name} is not an http:// or https:// URL of a proxy; special characters of the user name and the password"
            " must be percent-encoded"
        )
    user, _, password = credentials.partition(":")
    # RFC 7617 section 2; the bytes are sent as they are encoded in the URL.
    encoded = base64.b64encode(unquote_to_bytes(user) + b":" + unquote_to_bytes(password)).decode()
    return Proxy(f"{parts.scheme}://{address}", f"Basic {encoded}" if credentials else "")


def is_direct(no_proxy: str, host: str, port: int) -> bool:
    """Whether NO_PROXY lists this host, so that it is connected to without the proxy.

    The syntax is Go's (golang.org/x/net/http/httpproxy): an address, a network (CIDR), a domain, which matches its
    subdomains too, a domain with a leading "." or "*.", which matches only them, each but a network with an optional
    port, or * for everything. As in curl, entries may be separated by spaces, and a dot at the end of a name does not
    matter. Unlike Go, localhost and loopback addresses are no exception, as in curl. Names are not resolved.
    """
    name = host.strip("[]").removesuffix(".").lower()
    address = _address(name)
    return any(_is_match(entry, name, address, port) for entry in re.split(r"[\s,]+", no_proxy.lower()) if entry)


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address | None


def _is_match(entry: str, name: str, address: _Address, port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return address is not None and _is_in_network(address, entry)
    bare, entry_port = entry, ""
    if not _address(entry) and (match := _HOST_AND_PORT.fullmatch(entry)):
        bare, entry_port = match[1] or match[3] or "", match[2] or match[4] or ""
    if entry_port not in ("", str(port)):
        return False
    if address is not None or _address(bare):
        return address == _address(bare)
    domain = bare.removesuffix(".")
    domain = domain[1:] if domain.startswith("*.") else domain
    return bool(domain.strip(".")) and (name == domain or name.endswith(domain if domain[0] == "." else f".{domain}"))


def _address(text: str) -> _Address:
    """Parse an address; an IPv4-mapped one is the IPv4 address, as in Go's net.IP."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_in_network(address: ipaddress.IPv4Address | ipaddress.IPv6Address, entry: str) -> bool:
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return address.version == network.version and address in network


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies for http:// and https:// URLs, and the hosts that are connected to without them."""

    http: Proxy | None = None
    https: Proxy | None = None
    no_proxy: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read HTTP_PROXY, HTTPS_PROXY and NO_PROXY. Raises ValueError.

        Their lower-case forms come first, as in curl and Python. There is no ALL_PROXY, as in Go.
        """

        def read(name: str) -> str:
            return environment.get(name.lower(), "").strip() or environment.get(name, "").strip()

        http, https = (
            parse_proxy(text, name) if (text := read(name)) else None for name in ("HTTP_PROXY", "HTTPS_PROXY")
        )
        return cls(http, https, read("NO_PROXY"))

    def with_override(self, url: str | None, name: str) -> "Proxies":
        """Return the proxies with the proxy of a setting in place of both, unless it is None. NO_PROXY is kept."""
        if url is None:
            return self
        proxy = parse_proxy(url, name)
        return Proxies(proxy, proxy, self.no_proxy)

    def for_url(self, url: str) -> Proxy | None:
        """Return the proxy for a URL; None if it is connected to directly."""
        parts = urlsplit(url)
        proxy = {"http": self.http, "https": self.https}.get(parts.scheme)
        if proxy is None or is_direct(self.no_proxy, parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]):
            return None
        return proxy


NO_PROXIES = Proxies()
