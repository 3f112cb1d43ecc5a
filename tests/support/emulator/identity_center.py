"""AWS IAM Identity Center: CreateTokenWithIAM with its four grants, and the portal's GetRoleCredentials."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.support.emulator.constants import ACCOUNT
from tests.support.emulator.directory import GRANT_TYPE, Application, UserSession
from tests.support.emulator.oauth import OAuthError
from tests.support.emulator.oauth.assertions import verify_assertion
from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call, Service
from tests.support.emulator.state import Principal
from tests.support.emulator.sts import start_session
from tests.support.emulator.tokens import in_seconds, validity

_CODE_LIFETIME = timedelta(minutes=10)
_ACCESS_TOKEN, _REFRESH_TOKEN = (f"urn:ietf:params:oauth:token-type:{it}_token" for it in ("access", "refresh"))


def create_token_with_iam(call: Call) -> dict[str, Any]:
    """CreateTokenWithIAM: checks the application, the caller, then the grant."""
    application = call.state.directory.applications.get(call.params["clientId"])
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


def _required(call: Call, *names: str) -> list[str]:
    missing = [name for name in names if not call.params.get(name)]
    if missing:
        raise AwsError("InvalidRequestException", f"{missing[0]} is missing")
    return [call.params[name] for name in names]


def _invalid_grant() -> AwsError:
    return AwsError("InvalidGrantException", "Invalid grant provided")


def _authorization_code(call: Call, application: Application) -> dict[str, Any]:
    """Consume a code; a second use revokes the tokens that were issued for it (RFC 6749 section 4.1.2)."""
    text, redirect_uri = _required(call, "code", "redirectUri")
    directory = call.state.directory
    if text in directory.code_tokens:
        directory.families.find(directory.code_tokens[text])[0].history.revoked = True
    code = directory.codes.pop(text, None)
    if (
        code is None
        or (code.application, code.redirect_uri) != (application.arn, redirect_uri)
        or not code.matches_verifier(call.params.get("codeVerifier", ""))
        or call.now - code.issued_at > _CODE_LIFETIME
    ):
        raise _invalid_grant()
    output = _issue_tokens(call, application, code.user, _scopes(call, application.scopes))
    if "refreshToken" in output:
        directory.code_tokens[text] = output["refreshToken"]
    return output


def _refresh_token(call: Call, application: Application) -> dict[str, Any]:
    (token,) = _required(call, "refreshToken")
    state, families = call.state, call.state.directory.families
    try:
        family = families.check(token, application.arn, call.now)
    except OAuthError:
        raise _invalid_grant() from None
    scopes = _scopes(call, family.scopes)
    families.consume(token, rotate=True)
    state.counts["identity-center:refresh_token"] += 1
    state.record_secrets(family.newest)
    output = _issue_tokens(call, application, family.subject, scopes, refresh=False)
    return {**output, "refreshToken": family.newest}


def _jwt_bearer(call: Call, application: Application) -> dict[str, Any]:
    """Accept a JWT of the trusted token issuer for an audience of the application, and each `jti` once."""
    (assertion,) = _required(call, "assertion")
    issuer, replay_cache = call.state.issuer, call.state.directory.replay_cache
    try:
        claims = verify_assertion({issuer.url: issuer.key}, assertion, call.now)
    except OAuthError:
        raise _invalid_grant() from None
    if claims.get("aud") not in application.audiences or replay_cache.is_replay(claims):
        raise _invalid_grant()
    return _issue_tokens(call, application, claims["sub"], _scopes(call, application.scopes))


def _token_exchange(call: Call, application: Application) -> dict[str, Any]:
    """Accept an access token of another application that has this one among its scopes."""
    token, subject_type = _required(call, "subjectToken", "subjectTokenType")
    requested_type = call.params.get("requestedTokenType", _ACCESS_TOKEN)
    if subject_type != _ACCESS_TOKEN or requested_type not in {_ACCESS_TOKEN, _REFRESH_TOKEN}:
        raise AwsError("InvalidRequestException", "The token type is not supported")
    session = _session(call, token)
    if session is None or session.application == application.arn or application.arn not in session.scopes:
        raise _invalid_grant()
    scopes, refresh = _scopes(call, application.scopes), requested_type == _REFRESH_TOKEN
    output = _issue_tokens(call, application, session.user, scopes, refresh=refresh)
    return {**output, "issuedTokenType": requested_type}


def _scopes(call: Call, granted: frozenset[str]) -> frozenset[str]:
    scopes = frozenset(call.params.get("scope", [])) or granted
    if not scopes <= granted:
        raise AwsError("InvalidScopeException", "The scope is more than the application has")
    return scopes


def _session(call: Call, token: str) -> UserSession | None:
    session = call.state.directory.sessions.get(token)
    return session if session and session.expires_at > call.now else None


def _issue_tokens(
    call: Call, application: Application, user: str, scopes: frozenset[str], *, refresh: bool = True
) -> dict[str, Any]:
    if user not in application.users:
        # The message reveals neither the user nor the assignment.
        raise AwsError("AccessDeniedException", "access_denied")
    seconds, directory = call.state.settings.identity_center_seconds, call.state.directory
    expires_at = call.expiry(seconds)
    output: dict[str, Any] = {
        "accessToken": directory.add_session(UserSession(user, application.arn, scopes, expires_at)),
        "tokenType": "Bearer",
        "expiresIn": -60 if call.expired else seconds,
        "issuedTokenType": _ACCESS_TOKEN,
        "scope": sorted(scopes),
    }
    context = {}
    if "sts:identity_context" in scopes:
        context = {"sts:identity_context": directory.add_context(expires_at)}
        output["awsAdditionalDetails"] = {"identityContext": context["sts:identity_context"]}
    if "openid" in scopes:
        claims = {
            "iss": f"https://identitycenter.amazonaws.com/{application.arn.split('/')[1]}",
            "sub": user,
            "aud": application.arn,
            **validity(call.now, in_seconds(call.now, output["expiresIn"])),
        }
        output["idToken"] = directory.key.sign(claims | context)
    if refresh and "refresh_token" in application.grants:
        output["refreshToken"] = directory.families.start(application.arn, user, scopes).newest
    call.state.record_secrets(*(output.get(name, "") for name in ("accessToken", "idToken", "refreshToken")))
    return output


_GRANTS: dict[str, Callable[[Call, Application], dict[str, Any]]] = {
    "authorization_code": _authorization_code,
    "refresh_token": _refresh_token,
    f"{GRANT_TYPE}jwt-bearer": _jwt_bearer,
    f"{GRANT_TYPE}token-exchange": _token_exchange,
}


def get_role_credentials(call: Call) -> dict[str, Any]:
    """GetRoleCredentials: needs a valid session and an assignment of its user."""
    session = _session(call, call.params["accessToken"])
    if session is None or "sso:account:access" not in session.scopes:
        raise AwsError("UnauthorizedException", "Session token not found or invalid", 401)
    account, role = call.params["accountId"], call.params["roleName"]
    if (session.user, account, role) not in call.state.directory.assignments:
        raise AwsError("ForbiddenException", "No access", 403)
    name = f"AWSReservedSSO_{role}_0123456789abcdef"
    arn = f"arn:aws:sts::{account}:assumed-role/{name}/{session.user}"
    role_arn = f"arn:aws:iam::{account}:role/aws-reserved/sso.amazonaws.com/{name}"
    credentials = start_session(call, Principal(arn, f"AROAEXAMPLE:{session.user}", role_arn), 3600)
    return {
        "roleCredentials": {
            "accessKeyId": credentials["AccessKeyId"],
            "secretAccessKey": credentials["SecretAccessKey"],
            "sessionToken": credentials["SessionToken"],
            "expiration": int(credentials["Expiration"].timestamp() * 1000),
        }
    }


SERVICE = Service("sso-oidc", {"CreateTokenWithIAM": create_token_with_iam})
PORTAL = Service("sso", {"GetRoleCredentials": get_role_credentials})
