import gc
import ssl

from keyturn.core.proxies import NO_PROXIES
from keyturn.core.settings import AwsSettings
from keyturn.exchanges.aws_clients import AwsClients, session_without_chain


def tls_contexts() -> int:
    gc.collect()
    return sum(isinstance(it, ssl.SSLContext) for it in gc.get_objects())


def test_clients_share_the_memory_of_ca_certificates() -> None:
    clients, before = AwsClients(AwsSettings(), 1, lambda: session_without_chain(NO_PROXIES)), tls_contexts()
    for number in range(10):
        clients.get("sts", f"eu-west-{number}", 3)

    assert tls_contexts() - before == 1
