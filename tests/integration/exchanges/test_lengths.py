"""Values that are too long for AWS: botocore would send them, so Keyturn refuses them and explains why."""

from typing import Any

import pytest

from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.exchanges.aws import Aws
from tests.support.cases import cases
from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE, request
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT_ROLE_ARN, POOL_ID, USER_KEY_ID, USER_SECRET_KEY
from tests.support.exchange_steps import step

KEYS = Credentials(USER_KEY_ID, USER_SECRET_KEY)
ROLE = {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN}}
POOL = {"cognitoGetCredentials": {"identityPoolId": POOL_ID, "logins": {"login.example": "accessToken"}}}
SOURCE = {
    "token": {"secretKeyRef": {"name": "license", "key": "license_token"}},
    "credentials": {"secretRef": {"name": "base"}},
}


def with_token(size: int) -> PipelineValues:
    return PipelineValues(Token("t" * size))


def with_identity_context(size: int) -> PipelineValues:
    return PipelineValues(credentials=KEYS, identity_context="c" * size)


async def fail_step(client: Aws, step_spec: dict[str, Any], values: PipelineValues) -> RefusedError:
    with pytest.raises(RefusedError) as raised:
        await step(client, values, request(source=SOURCE, exchanges=[step_spec]))
    return raised.value


@cases(
    "step_spec, values, expected_text",
    {
        "a short context": (ROLE, with_identity_context(3), "identity context of Identity Center has 3 characters"),
        "a long context": (ROLE, with_identity_context(2049), "has 2049 characters; AWS accepts 4 to 2048"),
        "a short token": (ASSUME_ROLE, with_token(3), "the web identity token has 3 characters"),
        "a long token": (ASSUME_ROLE, with_token(20001), "AWS accepts 4 to 20000"),
        "a long refresh token": (ACCESS_TOKEN, with_token(4097), "the refresh token has 4097 characters"),
        "a long login": (POOL, with_token(50001), "the token for login.example has 50001 characters"),
    },
)
async def test_value_of_invalid_length_is_not_sent(
    step_spec: dict[str, Any], values: PipelineValues, expected_text: str, client: Aws, emulator: Emulator
) -> None:
    error = await fail_step(client, step_spec, values)

    assert (error.reason, expected_text in error.message) == ("SourceInvalid", True)
    assert emulator.recent_calls() == []


@cases(
    "step_spec, values",
    {
        "a context": (ROLE, with_identity_context(2048)),
        "a web identity token": (ASSUME_ROLE, with_token(20000)),
        "a refresh token": (ACCESS_TOKEN, with_token(4096)),
        "a login": (POOL, with_token(50000)),
    },
)
async def test_value_of_maximum_length_is_sent(
    step_spec: dict[str, Any], values: PipelineValues, client: Aws, emulator: Emulator
) -> None:
    await fail_step(client, step_spec, values)

    assert len(emulator.recent_calls()) == 1
