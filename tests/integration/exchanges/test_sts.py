from typing import Any

import jwt
import pytest

from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import PipelineValues
from keyturn.exchanges.aws import Aws
from tests.support.dependencies import ACCESS_TOKEN, ROLE, request
from tests.support.emulator.client import Emulator
from tests.support.exchange_steps import assume_role, failing, get_access_token

OPERATION = "AssumeRoleWithWebIdentity"
SESSION = "arn:aws:sts::111122223333:assumed-role/LicenseConsumer"


async def through(client: Aws, emulator: Emulator, **role: Any) -> PipelineValues:
    """Both steps of the flagship."""
    wanted = request(exchanges=[ACCESS_TOKEN, {"assumeRoleWithWebIdentity": {"roleArn": ROLE} | role}])
    held = await get_access_token(client, emulator.refresh_token(), wanted)
    return await assume_role(client, held.newest_token.value, wanted)


async def test_an_access_token_becomes_credentials(client: Aws, emulator: Emulator) -> None:
    held = await through(client, emulator)

    assert held.credentials
    assert {held.credentials.secret_access_key, held.credentials.session_token} <= {*emulator.secrets()}
    assert held.credentials.access_key_id.startswith("ASIA")
    assert len(held.request_id) == 36


async def test_the_session_is_named_after_the_request(client: Aws, emulator: Emulator) -> None:
    assert (await through(client, emulator)).principal == f"{SESSION}/billing.acme"
    assert (await through(client, emulator, roleSessionName="mine")).principal == f"{SESSION}/mine"


async def test_the_duration_is_asked_for(client: Aws, emulator: Emulator) -> None:
    held = await through(client, emulator, durationSeconds=900)
    claims = jwt.decode(held.newest_token.value, options={"verify_signature": False})

    assert held.credentials
    assert held.credentials.expires_at
    assert 890 <= held.credentials.expires_at.timestamp() - claims["iat"] <= 910


async def test_a_duration_over_the_roles_own_is_a_mistake_in_the_spec(client: Aws, emulator: Emulator) -> None:
    with pytest.raises(RefusedError, match="maximum session duration") as refused:
        await through(client, emulator, durationSeconds=43200)

    assert refused.value.reason == "InvalidSpec"


async def test_a_role_that_does_not_trust_may_soon(client: Aws, emulator: Emulator) -> None:
    with pytest.raises(RefusedError, match="trust policy name this issuer") as refused:
        await through(client, emulator, roleArn=f"{ROLE}-not-there")

    assert (refused.value.reason, refused.value.eventually_consistent) == ("AccessDenied", True)


@pytest.mark.parametrize(
    ("fault", "reason", "says"),
    [
        pytest.param({"code": "AccessDenied", "status": 403}, "AccessDenied", "trust policy", id="not trusted"),
        pytest.param({"code": "ExpiredTokenException"}, "SourceExpired", "had expired", id="an expired token"),
        pytest.param({"code": "IDPCommunicationError"}, "Unavailable", "", id="the issuer is away"),
        pytest.param(
            {"code": "IDPRejectedClaim", "status": 403},
            "AccessDenied",
            "refused the token's claims",
            id="bad claims",
        ),
        pytest.param({"code": "InvalidIdentityToken"}, "SourceInvalid", "OIDC provider", id="no provider"),
        pytest.param({"code": "MalformedPolicyDocument"}, "InvalidSpec", "", id="a malformed policy"),
        pytest.param({"code": "PackedPolicyTooLarge"}, "InvalidSpec", "", id="a policy that is too large"),
        pytest.param(
            {"code": "RegionDisabledException", "status": 403},
            "AccessDenied",
            "not enabled",
            id="a disabled region",
        ),
        pytest.param({"code": "ValidationError"}, "InvalidSpec", "durationSeconds", id="a bad request"),
        pytest.param({"code": "Throttling"}, "Throttled", "", id="throttled"),
        pytest.param({"code": "InternalFailure", "status": 500}, "Unavailable", "", id="broken"),
    ],
)
async def test_each_error(fault: dict[str, Any], reason: str, says: str, client: Aws, emulator: Emulator) -> None:
    error = await failing(client, emulator, OPERATION, message="planted", **fault)

    assert (error.reason, len(error.request_id)) == (reason, 36)
    assert error.message.startswith(f"STS AssumeRoleWithWebIdentity: {fault['code']}")
    assert says in error.message
    assert "planted" not in error.message


async def test_an_answer_that_is_over_already_is_handed_on(client: Aws, emulator: Emulator) -> None:
    emulator.fault(OPERATION, expired=True)
    held = await through(client, emulator)

    assert held.credentials
    assert held.credentials.expires_at
    assert held.credentials.expires_at.isoformat() < emulator.recent_calls()[-1]["at"]
