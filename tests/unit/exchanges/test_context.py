from contextlib import closing

from keyturn.api.exchanges.registry import EXCHANGES
from keyturn.api.source import ConfigMapKeyRef, SecretKeyRef
from keyturn.exchanges.context import Call, ExchangeContext
from keyturn.exchanges.registry import CALLS
from tests.support.exchange_steps import aws, issuer_client, no_token


def test_every_exchange_type_has_an_implementation() -> None:
    assert CALLS.keys() == {*EXCHANGES.values()}


async def test_secrets_are_read_in_the_namespace_of_the_request() -> None:
    async def read_value(namespace: str, ref: SecretKeyRef | ConfigMapKeyRef) -> str:
        return f"{namespace}/{ref.name}/{ref.key}"

    with closing(aws()) as client:
        call = Call(ExchangeContext(client, issuer_client(), read_value, no_token), "billing", "us-east-1", "acme")

        assert await call.secret(SecretKeyRef(name="client", key="secret")) == "billing/client/secret"
