"""The settings that have structure: one YAML file, validated like the API."""

import ipaddress
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Url = Annotated[str, Meta(pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?\Z")]


class AwsSettings(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """How AWS is reached. `endpoints` maps a service, or service/region, to a URL other than AWS's own."""

    endpoints: dict[Annotated[str, Meta(pattern=r"^[a-z-]+(/[a-z0-9-]+)?\Z")], Url] = {}

    def endpoint(self, service: str, region: str) -> str | None:
        """The URL to use instead of the one that botocore builds, if there is one."""
        return self.endpoints.get(f"{service}/{region}") or self.endpoints.get(service)


class WebSettings(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Which issuers may be asked: `hosts` (empty: any), at global addresses or in `private_networks` (CIDR)."""

    hosts: tuple[str, ...] = ()
    private_networks: tuple[Annotated[str, Meta(pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}\Z")], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is no network: an issuer would be refused for it much later."""
        for network in self.private_networks:
            ipaddress.ip_network(network)


class RenewalSettings(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Limits on renewing. The least interval also holds a twentieth of the lifetime, whichever is longer."""

    least_interval_seconds: Annotated[int, Meta(ge=1, le=3600)] = 10


class Settings(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The file given by --config."""

    aws: AwsSettings = AwsSettings()
    issuers: WebSettings = WebSettings()
    renewal: RenewalSettings = RenewalSettings()


def parse_settings(content: Any) -> Settings:
    """Read the settings; raises ValueError with the path of the field. Nothing at all means the defaults."""
    return msgspec.convert({} if content is None else content, Settings)
