"""One step of a pipeline against the emulator, as the spine takes it."""

from typing import Any

import pytest

from keyturn.core.errors import KeyturnError
from keyturn.core.holding import Holding, Token
from keyturn.core.model import Request
from keyturn.exchange import exchange
from keyturn.exchange.aws import Aws
from tests.aws import running
from tests.world import request


async def get_access_token(client: Aws, token: str, wanted: Request | None = None) -> Holding:
    """Exchange a refresh token for an access token."""
    made = wanted or request()
    return await exchange(client, made, made.spec.exchanges[0], Holding(Token(token)))


async def assume_role(client: Aws, token: str, wanted: Request | None = None) -> Holding:
    """Exchange a token for the credentials of the role."""
    made = wanted or request()
    return await exchange(client, made, made.spec.exchanges[1], Holding(Token(token)))


async def failing(client: Aws, emulator: running.Aws, operation: str, **fault: Any) -> KeyturnError:
    """What is raised where an operation goes wrong, however often it is tried."""
    emulator.fault(operation, times=None, **fault)
    step = get_access_token if operation == "GetAccessToken" else assume_role
    with pytest.raises(KeyturnError) as raised:
        await step(client, emulator.refresh_token())
    return raised.value
