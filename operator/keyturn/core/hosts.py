"""Hosts in the form in which they are compared, resolved and connected to."""

import ipaddress
import re

_LABEL = r"[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z)({_LABEL}\.)*{_LABEL}\.?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def canonical_host(host: str) -> str | None:
    """Return the canonical form of an IP address, and a lower-case ASCII host name unchanged; None for anything else.

    A host whose last label is a number is an address (WHATWG URL, "ends in a number checker"): resolvers accept octal,
    hexadecimal and short forms, whose meaning differs between them.
    """
    if ":" in host or _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]):
        try:
            # A zone exists only on one machine.
            return None if "%" in host else str(ipaddress.ip_address(host))
        except ValueError:
            return None
    return host if _NAME.fullmatch(host) else None
