from typing import Any

import jwt
import pytest

from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import PipelineValues
from keyturn.exchanges.aws import Aws
from tests.support.dependencies import ACCESS_TOKEN, ROLE, request
from tests.support.emulator.client import Emulator
from tests.support.exchange_steps import assume_role, get_access_token

SESSION = "arn:aws:sts::111122223333:assumed-role/LicenseConsumer"


async def run_both(client: Aws, emulator: Emulator, **role: Any) -> PipelineValues:
    """Run both exchanges of the default request."""
    token_request = request(exchanges=[ACCESS_TOKEN, {"assumeRoleWithWebIdentity": {"roleArn": ROLE} | role}])
    values = await get_access_token(client, emulator.refresh_token(), token_request)
    return await assume_role(client, values.current_token.value, token_request)


async def test_access_token_is_exchanged_for_credentials(client: Aws, emulator: Emulator) -> None:
    values = await run_both(client, emulator)

    assert values.credentials
    assert {values.credentials.secret_access_key, values.credentials.session_token} <= {*emulator.secrets()}
    assert values.credentials.access_key_id.startswith("ASIA")
    assert len(values.request_id) == 36


async def test_session_is_named_after_the_request(client: Aws, emulator: Emulator) -> None:
    assert (await run_both(client, emulator)).principal == f"{SESSION}/billing.acme"
    assert (await run_both(client, emulator, roleSessionName="custom")).principal == f"{SESSION}/custom"


async def test_duration_is_sent(client: Aws, emulator: Emulator) -> None:
    values = await run_both(client, emulator, durationSeconds=900)
    claims = jwt.decode(values.current_token.value, options={"verify_signature": False})

    assert values.credentials
    assert values.credentials.expires_at
    assert 890 <= values.credentials.expires_at.timestamp() - claims["iat"] <= 910


async def test_duration_over_the_maximum_is_invalid_spec(client: Aws, emulator: Emulator) -> None:
    with pytest.raises(RefusedError, match="maximum session duration") as raised:
        await run_both(client, emulator, durationSeconds=43200)

    assert raised.value.reason == "InvalidSpec"
