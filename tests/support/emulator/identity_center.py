"""AWS IAM Identity Center: CreateTokenWithIAM with its four grants, and the portal's GetRoleCredentials."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.support.emulator.constants import ACCOUNT
from tests.support.emulator.directory import CODE_LIVES, Application, Session
from tests.support.emulator.oauth.assertions import signed_by
from tests.support.emulator.oauth.refusal import OAuthError
from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call, Service
from tests.support.emulator.state import Principal
from tests.support.emulator.sts.session import start
from tests.support.emulator.tokens import in_seconds

_TYPE = "urn:ietf:params:oauth:token-type:"
_WORD = "urn:ietf:params:oauth:grant-type:"


def create_token_with_iam(call: Call) -> dict[str, Any]:
    """Answer CreateTokenWithIAM: the caller first, then the application, then its grant."""
    application = call.world.directory.applications.get(call.params["clientId"])
    if application is None:
        raise AwsError("InvalidClientException", "The application does not exist", 401)
    if call.signer.principal.account != ACCOUNT:
        raise AwsError("AccessDeniedException", "access_denied")
    grant = call.params["grantType"]
    if grant not in _GRANTS:
        raise AwsError("UnsupportedGrantTypeException", "The grant type is not known")
    if grant not in application.grants:
        raise AwsError("UnauthorizedClientException", "The application does not allow this grant")
    return _GRANTS[grant](call, application)


def _needed(call: Call, *names: str) -> list[str]:
    missing = [name for name in names if not call.params.get(name)]
    if missing:
        raise AwsError("InvalidRequestException", f"{missing[0]} is missing")
    return [call.params[name] for name in names]


def _invalid() -> AwsError:
    return AwsError("InvalidGrantException", "Invalid grant provided")


def _code(call: Call, application: Application) -> dict[str, Any]:
    """Take a code, once; who shows it again ends what came of it (RFC 6749 section 4.1.2)."""
    text, redirect_uri = _needed(call, "code", "redirectUri")
    directory = call.world.directory
    if text in directory.of_code:
        directory.families.find(directory.of_code[text])[0].history.revoked = True
    code = directory.codes.pop(text, None)
    good = (
        code is not None
        and (code.application, code.redirect_uri) == (application.arn, redirect_uri)
        and code.is_proved_by(call.params.get("codeVerifier", ""))
        and call.now - code.issued_at <= CODE_LIVES
    )
    if code is None or not good:
        raise _invalid()
    answer = _tokens(call, application, code.user, _scopes(call, application.scopes))
    if "refreshToken" in answer:
        directory.of_code[text] = answer["refreshToken"]
    return answer


def _refresh(call: Call, application: Application) -> dict[str, Any]:
    """Take a refresh token, once: the next one is in the answer."""
    (token,) = _needed(call, "refreshToken")
    world, families = call.world, call.world.directory.families
    try:
        family = families.check(
            token, application.arn, call.now, timedelta(seconds=world.settings.oauth_grace_seconds)
        )
    except OAuthError:
        raise _invalid() from None
    scopes = _scopes(call, family.scopes)
    if families.consume(token, call.now, rotates=True):
        world.counts["identity-center:refresh_token"] += 1
        world.remember(family.newest)
    answer = _tokens(call, application, family.subject, scopes, refreshes=False)
    return {**answer, "refreshToken": family.newest}


def _assertion(call: Call, application: Application) -> dict[str, Any]:
    """Take the JWT of the trusted token issuer, for one of the application's audiences, and no `jti` twice."""
    (assertion,) = _needed(call, "assertion")
    issuer, shown = call.world.issuer, call.world.directory.shown
    try:
        claims = signed_by({issuer.url: issuer.key}, assertion, call.now)
    except OAuthError:
        raise _invalid() from None
    if claims.get("aud") not in application.audiences or shown.again(claims):
        raise _invalid()
    return _tokens(call, application, claims["sub"], _scopes(call, application.scopes))


def _exchange(call: Call, application: Application) -> dict[str, Any]:
    """Take an access token that another application got, with this one among its scopes."""
    token, kind = _needed(call, "subjectToken", "subjectTokenType")
    wanted = call.params.get("requestedTokenType", f"{_TYPE}access_token")
    if kind != f"{_TYPE}access_token" or wanted not in {f"{_TYPE}access_token", f"{_TYPE}refresh_token"}:
        raise AwsError("InvalidRequestException", "The token type is not supported")
    session = _session(call, token)
    if session is None or session.application == application.arn or application.arn not in session.scopes:
        raise _invalid()
    scopes, refreshes = _scopes(call, application.scopes), wanted.endswith("refresh_token")
    return {**_tokens(call, application, session.user, scopes, refreshes=refreshes), "issuedTokenType": wanted}


def _scopes(call: Call, granted: frozenset[str]) -> frozenset[str]:
    scopes = frozenset(call.params.get("scope", [])) or granted
    if not scopes <= granted:
        raise AwsError("InvalidScopeException", "The scope is more than the application has")
    return scopes


def _session(call: Call, token: str) -> Session | None:
    session = call.world.directory.sessions.get(token)
    return session if session and session.expires_at > call.now else None


def _tokens(
    call: Call, application: Application, user: str, scopes: frozenset[str], *, refreshes: bool = True
) -> dict[str, Any]:
    if user not in application.users:
        # Neither the user nor the assignment is named.
        raise AwsError("AccessDeniedException", "access_denied")
    seconds, directory = call.world.settings.identity_center_seconds, call.world.directory
    ends = call.expiry(seconds)
    answer = {
        "accessToken": directory.new_session(Session(user, application.arn, scopes, ends)),
        "tokenType": "Bearer",
        "expiresIn": -60 if call.expired else seconds,
        "issuedTokenType": f"{_TYPE}access_token",
        "scope": sorted(scopes),
    }
    if "sts:identity_context" in scopes:
        answer["awsAdditionalDetails"] = {"identityContext": directory.new_context(ends)}
    if "openid" in scopes:
        answer["idToken"] = _id_token(call, application, user, answer)
    if refreshes and "refresh_token" in application.grants:
        answer["refreshToken"] = directory.families.start(application.arn, user, scopes).newest
    call.world.remember(*(str(answer.get(name, "")) for name in ("accessToken", "idToken", "refreshToken")))
    return answer


def _id_token(call: Call, application: Application, user: str, answer: dict[str, Any]) -> str:
    context = answer.get("awsAdditionalDetails", {}).get("identityContext")
    claims = {
        "iss": f"https://identitycenter.amazonaws.com/{application.arn.split('/')[1]}",
        "sub": user,
        "aud": application.arn,
        "iat": int(call.now.timestamp()),
        "exp": int(in_seconds(call.now, answer["expiresIn"]).timestamp()),
    }
    return call.world.directory.key.sign({**claims, **({"sts:identity_context": context} if context else {})})


_GRANTS: dict[str, Callable[[Call, Application], dict[str, Any]]] = {
    "authorization_code": _code,
    "refresh_token": _refresh,
    f"{_WORD}jwt-bearer": _assertion,
    f"{_WORD}token-exchange": _exchange,
}


def get_role_credentials(call: Call) -> dict[str, Any]:
    """Answer GetRoleCredentials: for a living session, and only what its user is assigned to."""
    session = _session(call, call.params["accessToken"])
    if session is None or "sso:account:access" not in session.scopes:
        raise AwsError("UnauthorizedException", "Session token not found or invalid", 401)
    account, role = call.params["accountId"], call.params["roleName"]
    if (session.user, account, role) not in call.world.directory.assignments:
        raise AwsError("ForbiddenException", "No access", 403)
    arn = f"arn:aws:sts::{account}:assumed-role/AWSReservedSSO_{role}_0123456789abcdef/{session.user}"
    role_arn = f"arn:aws:iam::{account}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_{role}_0123456789abcdef"
    given = start(call, Principal(arn, f"AROAEXAMPLE:{session.user}", role_arn), 3600)
    return {
        "roleCredentials": {
            "accessKeyId": given["AccessKeyId"],
            "secretAccessKey": given["SecretAccessKey"],
            "sessionToken": given["SessionToken"],
            "expiration": int(given["Expiration"].timestamp() * 1000),
        }
    }


SERVICE = Service("sso-oidc", {"CreateTokenWithIAM": create_token_with_iam})
PORTAL = Service("sso", {"GetRoleCredentials": get_role_credentials})
