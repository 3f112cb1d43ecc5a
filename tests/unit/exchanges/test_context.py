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


async def test_values_are_reported_as_they_are_read() -> None:
    async def read_value(_: str, ref: SecretKeyRef | ConfigMapKeyRef) -> str:
        if ref.name == "missing":
            raise RefusedError("SourceNotFound", "it does not exist")
        return "value"

    client, missing = SecretKeyRef(name="client", key="secret"), ConfigMapKeyRef(name="missing", key="ca.crt")
    received: list[tuple[object, str]] = []
    with closing(aws()) as aws_client:
        exchange_context = ExchangeContext(aws_client, issuer_client(), read_value, no_token)
        call = Call(
            exchange_context, "billing", "us-east-1", "acme", on_read=lambda ref, value: received.append((ref, value))
        )
        await call.secret(client)
        with pytest.raises(RefusedError):
            await call.secret(missing)

    assert received == [(client, "value"), (missing, "")]


async def test_long_secret_value_is_refused() -> None:
    ref = SecretKeyRef(name="client", key="secret")
    with closing(aws()) as client:
        exchange_context = context(client, values={"client": "x" * 20001})
        with pytest.raises(RefusedError, match=r"^key secret of client has 20001 characters") as error:
            await Call(exchange_context, "billing", "us-east-1", "acme").secret(ref)

    assert error.value.reason == "SourceInvalid"
