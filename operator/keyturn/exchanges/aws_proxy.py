"""A botocore session whose clients use Keyturn's proxies."""

from typing import Any

import botocore.session
from botocore.httpsession import ProxyConfiguration

from keyturn.core.proxies import Proxies


class _ProxyConfiguration(ProxyConfiguration):
    """Chooses the proxy of each request, and authenticates to it."""

    def __init__(self, proxies: Proxies) -> None:
        super().__init__()
        self._proxies_by_url = proxies

    def proxy_url_for(self, url: str) -> str | None:  # type: ignore[override]  # botocore returns None too
        proxy = self._proxies_by_url.for_url(url)
        return proxy.url if proxy else None

    def proxy_headers_for(self, proxy_url: str) -> dict[str, str]:
        known = (self._proxies_by_url.http, self._proxies_by_url.https)
        return next((proxy.headers for proxy in known if proxy and proxy.url == proxy_url), {})


class ProxiedSession(botocore.session.Session):
    """Creates clients, including those of its credential chain, that use `proxies` instead of the environment.

    botocore ignores networks in NO_PROXY, fails if a password is not ASCII, and may show the password in an exception.
    Its Config(proxies=...) applies to all hosts.
    """

    def __init__(self, proxies: Proxies, **options: Any) -> None:
        super().__init__(**options)
        self._proxy_configuration = _ProxyConfiguration(proxies)

    def create_client(self, *arguments: Any, **options: Any) -> Any:
        client: Any = super().create_client(*arguments, **options)
        # There is no public way to replace it. A test fails if botocore renames it.
        client._endpoint.http_session._proxy_config = self._proxy_configuration  # noqa: SLF001
        return client
