import gc
import ssl

import pytest
from botocore.exceptions import ProxyConnectionError

from keyturn.core.proxies import Proxies
from keyturn.core.settings import AwsSettings
from keyturn.exchanges.aws_clients import AwsClients, session_without_chain

CLOSED_PORT = "http://127.0.0.1:9"


def tls_contexts() -> int:
    gc.collect()
    return sum(isinstance(it, ssl.SSLContext) for it in gc.get_objects())


def test_clients_share_the_memory_of_ca_certificates() -> None:
    """Those for connections through a proxy, which are created with the first call, share it too."""
    proxies, before = Proxies.from_environment({"HTTPS_PROXY": CLOSED_PORT}), tls_contexts()
    clients = AwsClients(AwsSettings(), 1, lambda: session_without_chain(proxies))
    for number in range(10):
        client = clients.get("sts", f"eu-west-{number}", 1, signed=False)
        with pytest.raises(ProxyConnectionError):
            client.assume_role_with_web_identity(RoleArn="a" * 20, RoleSessionName="session", WebIdentityToken="abcd")

    assert tls_contexts() - before == 1
