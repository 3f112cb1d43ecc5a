"""AWS License Manager: refresh tokens of licenses, and access tokens for them."""

from datetime import timedelta
from typing import Any

import jwt

from tests.support.emulator.constants import ISSUER_ACCOUNT_PROPERTY, LICENSE_ISSUER
from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call, Service
from tests.support.emulator.state import LicenseToken, State
from tests.support.emulator.tokens import validity

_CLIENT_TOKEN_WINDOW = timedelta(minutes=10)
_TOKEN_MAX_LENGTH = 4096
# AWS documents no limit; this is the one of the CRD.
_DAYS_MAX = 7300


def issue(state: State, token: LicenseToken) -> LicenseToken:
    """Sign the JWT of a refresh token and store it."""
    claims = {**_claims(token), **validity(token.issued_at, token.expires_at), "token_id": token.token_id}
    token.token = state.license_token_key.sign(claims)
    if len(token.token) > _TOKEN_MAX_LENGTH:
        raise _invalid("TokenProperties are too long for a token")
    state.license_tokens[token.token_id] = token
    state.record_secrets(token.token)
    return token


def create_token(call: Call) -> dict[str, Any]:
    """CreateToken: a repeated ClientToken returns the same token for ten minutes."""
    token = _repeated_token(call)
    if token is None:
        license_arn, days = call.params["LicenseArn"], call.params.get("ExpirationInDays", 365)
        if license_arn not in call.state.licenses:
            raise AwsError("ResourceNotFoundException", f"License {license_arn} is not found")
        if not 1 <= days <= _DAYS_MAX:
            raise _invalid(f"ExpirationInDays must be 1 to {_DAYS_MAX}")
        properties, account = call.params.get("TokenProperties", []), call.signer.principal.account
        expires_at = call.expiry(days * 86400)
        token = LicenseToken(account, license_arn, call.now, expires_at, properties, call.params)
        issue(call.state, token)
    return {"TokenId": token.token_id, "TokenType": "REFRESH_TOKEN", "Token": token.token}


def _repeated_token(call: Call) -> LicenseToken | None:
    for token in call.state.license_tokens.values():
        is_recent = call.now - token.issued_at < _CLIENT_TOKEN_WINDOW
        is_own = token.account == call.signer.principal.account
        if is_recent and is_own and token.params.get("ClientToken") == call.params["ClientToken"]:
            if token.params != call.params:
                raise _invalid("ClientToken was used with other parameters")
            return token
    return None


def get_access_token(call: Call) -> dict[str, Any]:
    """GetAccessToken: does not consume the refresh token."""
    try:
        claims = call.state.license_token_key.claims(call.params["Token"])
    except jwt.InvalidTokenError:
        raise _invalid("Invalid token") from None
    if claims["exp"] <= call.now.timestamp():
        raise _invalid("Invalid token: it has expired")
    token = call.state.license_tokens[claims["token_id"]]
    if token.deleted:
        raise AwsError("AccessDeniedException", "The token was deleted")
    if not set(call.params.get("TokenProperties", [])) <= set(token.properties):
        raise _invalid("TokenProperties do not match those of the token")
    expires_at = call.expiry(min(3600, call.state.settings.access_token_seconds))
    access_token = call.state.license_key.sign({**_claims(token), **validity(call.now, expires_at)})
    call.state.record_secrets(access_token)
    return {"AccessToken": access_token}


def _claims(token: LicenseToken) -> dict[str, Any]:
    return {
        "iss": LICENSE_ISSUER,
        "sub": token.account,
        "aud": token.license_arn,
        "amr": [*token.properties, ISSUER_ACCOUNT_PROPERTY + token.account],
    }


def delete_token(call: Call) -> dict[str, Any]:
    token = call.state.license_tokens.get(call.params["TokenId"])
    if token is None or token.account != call.signer.principal.account:
        raise AwsError("ResourceNotFoundException", "The token is not found")
    token.deleted = True
    return {}


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationException", message)


# The API reference is stricter than the model.
_PARTITION = r"arn:aws(-(cn|us-gov|iso-b|iso-c|iso-d))?"
_ARN = _PARTITION + r":[A-Za-z0-9][\w/.-]{0,62}(:[\w/.-]{0,63}){2}:[A-Za-z0-9][\w:/+=,@.-]{0,1023}"
SERVICE = Service(
    "license-manager",
    {"CreateToken": create_token, "GetAccessToken": get_access_token, "DeleteToken": delete_token},
    constraints={"ClientToken": {"max": 60}, "Arn": {"pattern": _ARN}},
    unsigned_allowed=frozenset({"GetAccessToken"}),
    home_region_only=frozenset({"CreateToken", "DeleteToken"}),
)
