from contextlib import closing

import pytest

from keyturn.api.source import ConfigMapKeyRef, SecretKeyRef
from keyturn.core.errors import RefusedError
from keyturn.exchanges.context import Call, ExchangeContext
from tests.support.exchange_steps import aws, context, issuer_client, no_token


async def test_secrets_are_read_in_the_namespace_of_the_request() -> None:
    async def read_value(namespace: str, ref: SecretKeyRef | ConfigMapKeyRef) -> str:
        return f"{namespace}/{ref.name}/{ref.key}"

    with closing(aws()) as client:
        call = Call(ExchangeContext(client, issuer_client(), read_value, no_token), "billing", "us-east-1", "acme")

        assert await call.secret(SecretKeyRef(name="client", key="secret")) == "billing/client/secret"


async def test_secret_value_over_16_kib_is_refused() -> None:
    ref = SecretKeyRef(name="client", key="secret")
    with closing(aws()) as client:
        exchange_context = context(client, values={"client": "x" * 16385})
        with pytest.raises(RefusedError, match=r"^key secret of client has 16385 characters") as error:
            await Call(exchange_context, "billing", "us-east-1", "acme").secret(ref)

    assert error.value.reason == "SourceInvalid"
