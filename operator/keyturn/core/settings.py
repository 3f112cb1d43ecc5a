"""The settings that have structure: one YAML file, validated like the API."""

import ipaddress
import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Url = Annotated[str, Meta(pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?\Z")]


class AwsSettings(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """How AWS is reached. `endpoints` maps a service, or service/region, to a URL other than AWS's own.

    `fips` and `dual_stack` choose among AWS's own hosts. Without `proxy` the environment's is used; `ca_bundle` is
    a file of certificates (PEM) to trust instead of the usual ones.
    """

    endpoints: dict[Annotated[str, Meta(pattern=r"^[a-z-]+(/[a-z0-9-]+)?\Z")], Url] = {}
    fips: bool = False
    dual_stack: bool = False
    proxy: Url | None = None
    ca_bundle: Annotated[str, Meta(min_length=1)] | None = None

    def endpoint(self, service: str, region: str) -> str | None:
        """The URL to use instead of the one that botocore builds, if there is one."""
        return self.endpoints.get(f"{service}/{region}") or self.endpoints.get(service)


class IssuerSettings(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Which issuers may be called: `allowed_hosts` (empty: any), at global addresses or in private networks.

    A `proxy` looks up names itself: with one, `allowed_hosts` is what protects the network that it stands in.
    """

    # As it is compared: a URL, a capital, a port or a * would allow no host at all, and say so with each request.
    allowed_hosts: tuple[Annotated[str, Meta(pattern=r"^([a-z0-9_]([-a-z0-9_.]*[a-z0-9])?|[0-9a-f:]+)\Z")], ...] = ()
    proxy: Url | None = None
    allowed_private_networks: tuple[Annotated[str, Meta(pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}\Z")], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is no network, which an issuer would be refused for much later, and a proxy to any host."""
        if self.proxy and not self.allowed_hosts:
            raise ValueError("a proxy for issuers needs a list of their hosts: which address it asks cannot be checked")
        for network in self.allowed_private_networks:
            ipaddress.ip_network(network)


_Pattern = Annotated[str, Meta(min_length=1, max_length=2048, pattern=r"^[!-~]+\Z")]


class AmbientRule(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Who may use the operator's own AWS identity, and for which roles; * stands for any characters."""

    namespaces: Annotated[tuple[_Pattern, ...], Meta(min_length=1)]
    roles: Annotated[tuple[_Pattern, ...], Meta(min_length=1)]

    def allows(self, namespace: str, role: str) -> bool:
        """Whether a request in the namespace may assume the role."""
        return any(_fits(it, namespace) for it in self.namespaces) and any(_fits(it, role) for it in self.roles)


class SourceSettings(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What sources may ask the operator for: `audiences` of service accounts' tokens, its `ambient` identity.

    With `require_label` a Secret is read only where it bears the label keyturn.dev/source: "true".
    """

    audiences: tuple[_Pattern, ...] = ("sts.amazonaws.com",)
    ambient: tuple[AmbientRule, ...] = ()
    require_label: bool = False


def _fits(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text) is not None


class RenewalSettings(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Limits on renewing. The least interval also holds a twentieth of the lifetime, whichever is longer."""

    min_interval_seconds: Annotated[int, Meta(ge=1, le=3600)] = 10


class Settings(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The file given by --config."""

    aws: AwsSettings = AwsSettings()
    issuers: IssuerSettings = IssuerSettings()
    renewal: RenewalSettings = RenewalSettings()
    sources: SourceSettings = SourceSettings()


def parse_settings(content: Any) -> Settings:
    """Read the settings; raises ValueError with the path of the field. Nothing at all means the defaults."""
    return msgspec.convert({} if content is None else content, Settings)
