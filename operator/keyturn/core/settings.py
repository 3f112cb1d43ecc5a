"""The structured settings in the file of --config, validated as strictly as the API."""

import ipaddress
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from keyturn.api.base import matching
from keyturn.core.proxies import canonical_host, parse_proxy

Url = Annotated[
    str,
    matching(
        r"^https?://[^/?#@\s]+(/[^?#\s]*)?\Z",
        "an http or https URL without a user name, a query and a fragment, such as https://sts.example.com",
    ),
]
_Service = Annotated[
    str,
    matching(r"^[a-z0-9-]+(/[a-z0-9-]+)?\Z", "the name of a service, or service/region, such as sts or sts/eu-west-1"),
]


class AwsSettings(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """How to connect to AWS."""

    endpoints: Annotated[
        dict[_Service, Url],
        Meta(
            description="URLs that replace AWS's own, by service (`sts`) or by service and region (`sts/eu-west-1`),"
            " such as those of VPC endpoints."
        ),
    ] = {}
    fips: Annotated[bool, Meta(description="Whether to call AWS's FIPS hosts.")] = False
    dual_stack: Annotated[bool, Meta(description="Whether to call AWS's dual-stack hosts (IPv4 and IPv6).")] = False
    proxy: Annotated[
        str | None,
        Meta(description="URL of a proxy for AWS, without a password. Default: the proxy of the environment."),
    ] = None
    ca_bundle: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="Path of a file with CA certificates (PEM) to trust for AWS. Default: those of the AWS SDK."),
    ] = None

    def __post_init__(self) -> None:
        """Refuse an invalid proxy."""
        _check_proxy(self.proxy)

    def endpoint(self, service: str, region: str) -> str | None:
        """The URL that replaces botocore's default; None if there is none."""
        return self.endpoints.get(f"{service}/{region}") or self.endpoints.get(service)


# A URL, a capital letter, a port or a * would never match a host, and only the first request would show it. A name
# with other letters is written with its A-labels (xn--...), to which it is converted before it is connected to.
_Host = Annotated[
    str,
    matching(
        r"^([a-z0-9_]([-a-z0-9_.]*[a-z0-9])?|[0-9a-f:]+)\Z",
        "the name or the IP address of one host, such as issuer.example.com, in lower case and ASCII (xn--...), without"
        " a scheme, a port and wildcards",
    ),
]
_Network = Annotated[str, matching(r"^[0-9a-fA-F.:]+/[0-9]{1,3}\Z", "a network, such as 10.0.0.0/8 or fd00::/8")]


def _check_proxy(url: str | None) -> None:
    if url is not None and parse_proxy(url, "proxy").authorization:
        raise ValueError(
            "proxy contains a user name or password, and the settings are not secret: set the environment variable"
            " HTTPS_PROXY from a Secret instead (proxy.existingSecret of the chart)"
        )


class IssuerSettings(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Which OAuth issuers may be called, and how.

    A proxy resolves host names itself, so addresses cannot be checked: only `allowed_hosts` protects its network.
    """

    allowed_hosts: Annotated[
        tuple[_Host, ...],
        Meta(
            description="Hosts that oauthToken may call, such as `id.example.com`. If the list is empty, oauthToken may"
            " call any host with a public address."
        ),
    ] = ()
    proxy: Annotated[
        str | None,
        Meta(
            description="URL of a proxy for issuers, without a password; requires `issuers.allowedHosts`. Default: the"
            " proxy of the environment if `issuers.allowedHosts` is set, otherwise none."
        ),
    ] = None
    allowed_private_networks: Annotated[
        tuple[_Network, ...],
        Meta(
            description="Private networks in which issuers may be, such as `10.0.0.0/8`. The metadata address of a"
            " cloud is never allowed."
        ),
    ] = ()
    max_concurrent_requests: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Maximum number of concurrent requests to one token URL. Others wait in the work queue."
            " A namespace that has none in progress may send one above the limit, up to 16 times the limit in total."
            " Increase it if many TokenRequests with the same issuer are renewed late.",
        ),
    ] = 2

    def __post_init__(self) -> None:
        """Refuse invalid networks, which would otherwise fail at the first call, and a proxy without allowed hosts."""
        _check_proxy(self.proxy)
        if self.proxy and not self.allowed_hosts:
            raise ValueError("proxy needs allowedHosts: a proxy resolves host names, so addresses cannot be checked")
        for host in self.allowed_hosts:
            if canonical_host(host) is None:
                raise ValueError(f"allowedHosts: {host} is neither a host name nor an IP address in its usual form")
        for network in self.allowed_private_networks:
            ipaddress.ip_network(network)

    def is_allowed(self, host: str) -> bool:
        """Whether a host, in its canonical form, may be called."""
        return not self.allowed_hosts or host in map(canonical_host, self.allowed_hosts)


_Text = Annotated[
    str, matching(r"^[!-~]+\Z", "printable ASCII characters without spaces", min_length=1, max_length=2048)
]


class AmbientRule(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Namespaces that may assume roles with the operator's own AWS identity."""

    namespaces: Annotated[
        tuple[_Text, ...], Meta(min_length=1, description="Names of namespaces; `*` matches any characters.")
    ]
    roles: Annotated[
        tuple[_Text, ...], Meta(min_length=1, description="ARNs of IAM roles; `*` matches any characters.")
    ]

    def is_met_by(self, namespace: str, role: str) -> bool:
        """Whether a TokenRequest in the namespace may assume the role."""
        return any(_is_match(it, namespace) for it in self.namespaces) and any(_is_match(it, role) for it in self.roles)


class SourceSettings(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What sources may use."""

    audiences: Annotated[
        tuple[_Text, ...],
        Meta(
            description="Audiences that ServiceAccount tokens may have (source.token.serviceAccount and"
            " clientAssertionFrom.serviceAccount)."
        ),
    ] = ("sts.amazonaws.com",)
    ambient: Annotated[
        tuple[AmbientRule, ...],
        Meta(
            description="Namespaces that may use the operator's own AWS identity (source.credentials.ambient), and the"
            " roles that they may assume with it. Default: none."
        ),
    ] = ()
    require_label: Annotated[
        bool,
        Meta(
            description="Whether the operator reads only Secrets with the label `keyturn.dev/source: "
            '"true"`, for sources and for the values of exchanges.'
        ),
    ] = False


def _is_match(pattern: str, text: str) -> bool:
    """Whether the text matches. A regular expression could take minutes for many asterisks and a long text."""
    first, *others = pattern.split("*")
    if not others:
        return text == pattern
    *parts, last = others
    position, end = len(first), len(text) - len(last)
    if position > end or not text.startswith(first) or not text.endswith(last):
        return False
    for part in parts:
        # The first occurrence leaves the most text for the other parts, so no other one has to be tried.
        position = text.find(part, position, end)
        if position < 0:
            return False
        position += len(part)
    return True


class RenewalSettings(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Limits on renewals."""

    min_interval_seconds: Annotated[
        int,
        Meta(
            ge=1,
            le=3600,
            description="Minimum time between two exchanges of a TokenRequest after changes by users. Between scheduled"
            " renewals, it is a twentieth of the lifetime if that is longer.",
        ),
    ] = 10


class DocsSettings(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Where the documentation is published."""

    troubleshooting_url: Annotated[
        Annotated[Url, Meta(max_length=256)] | None,
        Meta(
            description="URL of a published copy of docs/operations/troubleshooting.md, such as"
            " `https://docs.example.com/operations/troubleshooting/`. Conditions and Events that report a problem end"
            " with it and the section about their reason. In the chart, alerts and the dashboard link to it as well."
        ),
    ] = None


class Settings(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The content of the file."""

    aws: AwsSettings = AwsSettings()
    issuers: IssuerSettings = IssuerSettings()
    renewal: RenewalSettings = RenewalSettings()
    sources: SourceSettings = SourceSettings()
    docs: DocsSettings = DocsSettings()


def parse_settings(content: Any) -> Settings:
    """Parse the settings; raises ValueError with the path of the field. None, an empty file, means the defaults."""
    return msgspec.convert({} if content is None else content, Settings)
