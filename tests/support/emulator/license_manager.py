"""AWS License Manager: long-lived refresh tokens, and the access tokens that they give."""

import base64
from datetime import datetime, timedelta
from typing import Any

import jwt

from tests.support.emulator.constants import ISSUER_ACCOUNT_PROPERTY, LICENSE_ISSUER
from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call, Service
from tests.support.emulator.state import RefreshToken, State

CLIENT_TOKEN_WINDOW = timedelta(minutes=10)
_TOKEN_MAX = 4096
# No page of AWS has a limit: what the CRD takes, the emulator does.
_DAYS_MAX = 7300
_PAGE = 100


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationException", message)


def mint(world: State, token: RefreshToken) -> RefreshToken:
    """Sign the JWT of a refresh token and remember it."""
    claims = _claims(token, token.issued_at, token.expires_at)
    token.token = world.refresh_token_key.sign({**claims, "token_id": token.token_id})
    if len(token.token) > _TOKEN_MAX:
        raise _invalid("TokenProperties are too long for a token")
    world.refresh_tokens[token.token_id] = token
    world.remember(token.token)
    return token


def create_token(call: Call) -> dict[str, Any]:
    """Answer CreateToken: the same token for the same ClientToken within ten minutes."""
    token = _issued_before(call) or _new_token(call)
    return {"TokenId": token.token_id, "TokenType": "REFRESH_TOKEN", "Token": token.token}


def _new_token(call: Call) -> RefreshToken:
    license_arn, days = call.params["LicenseArn"], call.params.get("ExpirationInDays", 365)
    if license_arn not in call.world.licenses:
        raise AwsError("ResourceNotFoundException", f"License {license_arn} is not found")
    if not 1 <= days <= _DAYS_MAX:
        raise _invalid(f"ExpirationInDays must be 1 to {_DAYS_MAX}")
    properties = call.params.get("TokenProperties", [])
    expires_at = call.expiry(days * 86400)
    account = call.signer.principal.account
    return mint(call.world, RefreshToken(account, license_arn, call.now, expires_at, properties, call.params))


def _issued_before(call: Call) -> RefreshToken | None:
    for token in call.world.refresh_tokens.values():
        recent = (
            call.now - token.issued_at < CLIENT_TOKEN_WINDOW and token.account == call.signer.principal.account
        )
        if recent and token.asked.get("ClientToken") == call.params["ClientToken"]:
            if token.asked != call.params:
                raise _invalid("ClientToken was used with other parameters")
            return token
    return None


def get_access_token(call: Call) -> dict[str, Any]:
    """Answer GetAccessToken: the refresh token is not used up by it."""
    refresh = _known(call)
    if not set(call.params.get("TokenProperties", [])) <= set(refresh.properties):
        raise _invalid("TokenProperties do not match those of the token")
    expires_at = call.expiry(min(3600, call.world.settings.access_token_seconds))
    access_token = call.world.access_token_key.sign(_claims(refresh, call.now, expires_at))
    call.world.remember(access_token)
    return {"AccessToken": access_token}


def _known(call: Call) -> RefreshToken:
    try:
        claims = call.world.refresh_token_key.claims(call.params["Token"])
    except jwt.InvalidTokenError:
        raise _invalid("Invalid token") from None
    if claims["exp"] <= call.now.timestamp():
        raise _invalid("Invalid token: it has expired")
    refresh = call.world.refresh_tokens[claims["token_id"]]
    if refresh.deleted:
        raise AwsError("AccessDeniedException", "The token was deleted")
    return refresh


def _claims(refresh: RefreshToken, issued_at: datetime, expires_at: datetime) -> dict[str, Any]:
    return {
        "iss": LICENSE_ISSUER,
        "sub": refresh.account,
        "aud": refresh.license_arn,
        "amr": [*refresh.properties, ISSUER_ACCOUNT_PROPERTY + refresh.account],
        "iat": int(issued_at.timestamp()),
        "exp": int(expires_at.timestamp()),
    }


def list_tokens(call: Call) -> dict[str, Any]:
    """Answer ListTokens: the caller's own, page by page, never the token itself."""
    filters = call.params.get("Filters", [])
    if any(one.get("Name") != "LicenseArns" or len(one.get("Values", [])) != 1 for one in filters):
        raise _invalid("The only filter is LicenseArns, with one value")
    mine = [token for token in call.world.refresh_tokens.values() if _wanted(call, filters, token)]
    start = _start(call.params.get("NextToken"), len(mine))
    end = start + call.params.get("MaxResults", _PAGE)
    page = {"Tokens": [_listed(token) for token in mine[start:end]]}
    return {**page, "NextToken": base64.b64encode(str(end).encode()).decode()} if end < len(mine) else page


def _wanted(call: Call, filters: list[dict[str, Any]], token: RefreshToken) -> bool:
    return (
        token.account == call.signer.principal.account
        and token.token_id in call.params.get("TokenIds", [token.token_id])
        and all(token.license_arn in one["Values"] for one in filters)
    )


def _start(next_token: str | None, count: int) -> int:
    if next_token is None:
        return 0
    try:
        return range(count)[int(base64.b64decode(next_token, validate=True))]
    except (ValueError, IndexError):
        raise _invalid("NextToken is not one that ListTokens gave") from None


def _listed(token: RefreshToken) -> dict[str, Any]:
    return {
        "TokenId": token.token_id,
        "TokenType": "REFRESH_TOKEN",
        "LicenseArn": token.license_arn,
        "ExpirationTime": token.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "TokenProperties": token.properties,
        "RoleArns": token.asked.get("RoleArns", []),
        "Status": "DELETED" if token.deleted else "AVAILABLE",
    }


def delete_token(call: Call) -> dict[str, Any]:
    """Answer DeleteToken: from now on the refresh token gives nothing more."""
    token = call.world.refresh_tokens.get(call.params["TokenId"])
    if token is None or token.account != call.signer.principal.account:
        raise AwsError("ResourceNotFoundException", "The token is not found")
    token.deleted = True
    return {}


# The operations' own pages are stricter than the model.
_PARTITION = r"arn:aws(-(cn|us-gov|iso-b|iso-c|iso-d))?"
_ARN = _PARTITION + r":[A-Za-z0-9][\w/.-]{0,62}(:[\w/.-]{0,63}){2}:[A-Za-z0-9][\w:/+=,@.-]{0,1023}"
SERVICE = Service(
    "license-manager",
    {
        "CreateToken": create_token,
        "GetAccessToken": get_access_token,
        "ListTokens": list_tokens,
        "DeleteToken": delete_token,
    },
    stricter={"ClientToken": {"max": 60}, "Arn": {"pattern": _ARN}},
    may_be_unsigned=frozenset({"GetAccessToken"}),
    at_home=frozenset({"CreateToken", "DeleteToken"}),
)
