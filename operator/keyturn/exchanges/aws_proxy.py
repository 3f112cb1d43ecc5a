"""A botocore session whose clients use the proxies of Keyturn."""

from typing import Any

import botocore.session
from botocore.httpsession import ProxyConfiguration

from keyturn.core.proxies import Proxies


class _ProxyConfiguration(ProxyConfiguration):
    """Chooses the proxy of each request, and authenticates to it."""

    def __init__(self, proxies: Proxies) -> None:
        super().__init__()
        # Not _proxies, which is an attribute of the base class.
        self._keyturn_proxies = proxies

    def proxy_url_for(self, url: str) -> str | None:  # type: ignore[override]  # botocore returns None too
        proxy = self._keyturn_proxies.for_url(url)
        return proxy.url if proxy else None

    def proxy_headers_for(self, proxy_url: str) -> dict[str, str]:
        known = (self._keyturn_proxies.http, self._keyturn_proxies.https)
        return next((proxy.headers for proxy in known if proxy and proxy.url == proxy_url), {})


class ProxiedSession(botocore.session.Session):
    """Creates clients that use `proxies`, and not the environment; those of its credential chain too.

    botocore matches no networks in NO_PROXY, fails if a password is not ASCII, and may show it in an exception. Its
    Config(proxies=...) is for all hosts.
    """

    def __init__(self, proxies: Proxies, **options: Any) -> None:
        super().__init__(**options)
        self._proxy_configuration = _ProxyConfiguration(proxies)

    def create_client(self, *arguments: Any, **options: Any) -> Any:
        client: Any = super().create_client(*arguments, **options)
        # There is no public way to replace it; the tests notice if botocore renames it.
        client._endpoint.http_session._proxy_config = self._proxy_configuration  # noqa: SLF001
        return client
