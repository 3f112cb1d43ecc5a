"""GetSessionToken and GetFederationToken: only for a user's own keys."""

from dataclasses import replace
from typing import Any

from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call
from tests.support.emulator.state import Principal
from tests.support.emulator.sts.mfa import passed_mfa
from tests.support.emulator.sts.session import packed_size, start

_DEFAULT_SECONDS = 43200


def get_session_token(call: Call) -> dict[str, Any]:
    """Answer GetSessionToken: the user again, for a time, perhaps with an MFA code shown."""
    user = _user(call, "GetSessionToken")
    principal = replace(user, mfa=passed_mfa(call))
    return {"Credentials": start(call, principal, call.params.get("DurationSeconds", _DEFAULT_SECONDS))}


def get_federation_token(call: Call) -> dict[str, Any]:
    """Answer GetFederationToken: a guest of the user's account."""
    account, name = _user(call, "GetFederationToken").account, call.params["Name"]
    guest = Principal(f"arn:aws:sts::{account}:federated-user/{name}", f"{account}:{name}")
    return {
        **packed_size(call.params),
        "Credentials": start(call, guest, call.params.get("DurationSeconds", _DEFAULT_SECONDS)),
        "FederatedUser": {"FederatedUserId": guest.unique_id, "Arn": guest.arn},
    }


def _user(call: Call, operation: str) -> Principal:
    if call.signer.session_token:
        raise AwsError("AccessDenied", f"Cannot call {operation} with session credentials", 403)
    return call.signer.principal
