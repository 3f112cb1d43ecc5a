"""AWS STS."""

from typing import Any

from tests.support.emulator.service import Call, Service
from tests.support.emulator.sts.assume_role import assume_role
from tests.support.emulator.sts.user_sessions import get_federation_token, get_session_token
from tests.support.emulator.sts.web_identity import assume_role_with_web_identity


def get_caller_identity(call: Call) -> dict[str, Any]:
    principal = call.signer.principal
    return {"UserId": principal.unique_id, "Account": principal.account, "Arn": principal.arn}


SERVICE = Service(
    "sts",
    {
        "AssumeRole": assume_role,
        "AssumeRoleWithWebIdentity": assume_role_with_web_identity,
        "GetCallerIdentity": get_caller_identity,
        "GetFederationToken": get_federation_token,
        "GetSessionToken": get_session_token,
    },
    constraints={"policyDescriptorListType": {"max": 10}},
)
