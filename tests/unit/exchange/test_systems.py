from contextlib import closing

from keyturn.core.model.exchanges import OPERATIONS
from keyturn.core.model.source import ConfigMapKeyRef, SecretKeyRef
from keyturn.exchange import EXCHANGES
from keyturn.exchange.systems import Call, Systems
from tests.unit.exchange.steps import aws, no_token, web


def test_every_operation_of_the_api_has_its_exchange() -> None:
    assert EXCHANGES.keys() == {*OPERATIONS.values()}


async def test_a_secret_of_a_step_is_read_in_the_namespace_of_the_request() -> None:
    async def read_value(namespace: str, ref: SecretKeyRef | ConfigMapKeyRef) -> str:
        return f"{namespace}/{ref.name}/{ref.key}"

    with closing(aws()) as client:
        call = Call(Systems(client, web(), read_value, no_token), "billing", "us-east-1", "acme")

        assert await call.secret(SecretKeyRef(name="client", key="secret")) == "billing/client/secret"
