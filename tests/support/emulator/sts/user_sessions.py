"""GetSessionToken and GetFederationToken: only for the access keys of a user."""

from dataclasses import replace
from typing import Any

from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call
from tests.support.emulator.state import Principal
from tests.support.emulator.sts.session import packed_policy_size, start_session, verify_mfa

_DEFAULT_SECONDS = 43200


def get_session_token(call: Call) -> dict[str, Any]:
    """GetSessionToken: temporary credentials of the same user, with MFA if a code is sent."""
    principal = replace(_user(call, "GetSessionToken"), mfa=verify_mfa(call))
    return {"Credentials": start_session(call, principal, call.params.get("DurationSeconds", _DEFAULT_SECONDS))}


def get_federation_token(call: Call) -> dict[str, Any]:
    """GetFederationToken: credentials of a federated user of the account."""
    account, name = _user(call, "GetFederationToken").account, call.params["Name"]
    principal = Principal(f"arn:aws:sts::{account}:federated-user/{name}", f"{account}:{name}")
    return {
        **packed_policy_size(call.params),
        "Credentials": start_session(call, principal, call.params.get("DurationSeconds", _DEFAULT_SECONDS)),
        "FederatedUser": {"FederatedUserId": principal.unique_id, "Arn": principal.arn},
    }


def _user(call: Call, operation: str) -> Principal:
    if call.signer.session_token:
        raise AwsError("AccessDenied", f"Cannot call {operation} with session credentials", 403)
    return call.signer.principal
