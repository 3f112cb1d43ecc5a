from typing import Any

import jwt
import pytest

from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError, UnavailableError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.core.settings import AwsSettings
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.registry import exchange
from tests.support.clock import real_now
from tests.support.dependencies import HOUR, REFRESH, SECOND, request
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import (
    ACCOUNT,
    ACCOUNT_ROLE_ARN,
    APPLICATION_ARN,
    OTHER_APPLICATION_ARN,
    PERMISSION_SET,
    REDIRECT_URI,
    USER_KEY_ID,
    USER_SECRET_KEY,
)
from tests.support.exchange_steps import aws, context
from tests.support.manifests.tokens import BEARER, BOTH, EXCHANGE, TYPE, center

CREATE, PORTAL = "CreateTokenWithIAM", "GetRoleCredentials"
USER = Credentials(USER_KEY_ID, USER_SECRET_KEY)
VERIFIER = "verifier-of-forty-three-characters-or-more-"
CODE = "authorization_code"
ROLES = {"identityCenterGetRoleCredentials": {"roleName": PERMISSION_SET, "accountId": ACCOUNT}}
ASSUME = {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN}}


def asking(grant: str, **changes: Any) -> Request:
    """A request whose only exchange is with Identity Center."""
    asked = {"clientId": APPLICATION_ARN, "grantType": grant, "redirectUri": None, "codeFrom": None} | changes
    if grant == CODE:
        asked |= {"redirectUri": REDIRECT_URI, "codeFrom": {"secretKeyRef": {"name": "sign-in", "key": "code"}}}
    before = [REFRESH] if "from" in changes else []
    return request(source=BOTH["source"], exchanges=[*before, *center(**asked)["exchanges"]])


async def call(
    client: Aws, held: PipelineValues, grant: str, values: dict[str, str] | None = None, **more: Any
) -> PipelineValues:
    wanted = asking(grant, **more)
    return await exchange(context(client, values=values), wanted, wanted.spec.exchanges[-1], held)


async def failing(client: Aws, held: PipelineValues, grant: str, **more: Any) -> KeyturnError:
    with pytest.raises(KeyturnError) as raised:
        await call(client, held, grant, **more)
    return raised.value


def with_code(emulator: Emulator, **more: Any) -> PipelineValues:
    return PipelineValues(credentials=USER, proof=emulator.authorization_code(**more))


def with_refresh_token(emulator: Emulator) -> PipelineValues:
    return PipelineValues(Token(emulator.identity_center_token(refresh=True)), credentials=USER)


async def test_a_code_becomes_tokens_and_a_context(client: Aws, emulator: Emulator) -> None:
    before = real_now()
    held = await call(client, with_code(emulator), CODE)

    assert held.access_token
    assert held.id_token
    assert {held.access_token.value, held.id_token.value, held.refresh_token} <= {*emulator.secrets()}
    assert held.access_token.expires_at
    assert 0 * SECOND <= held.access_token.expires_at - before - HOUR < 5 * SECOND
    claims = jwt.decode(held.id_token.value, options={"verify_signature": False})
    assert held.identity_context == claims["sts:identity_context"]


async def test_a_code_with_its_verifier(client: Aws, emulator: Emulator) -> None:
    verifier = {"codeVerifierFrom": {"secretKeyRef": {"name": "verifier", "key": "v"}}}
    held = await call(client, with_code(emulator, verifier=VERIFIER), CODE, {"verifier": VERIFIER}, **verifier)
    error = await failing(client, with_code(emulator, verifier=VERIFIER), CODE)

    assert held.access_token
    assert (error.reason, "InvalidGrantException" in error.message) == ("SourceInvalid", True)


@pytest.mark.parametrize("grant", [CODE, BEARER, EXCHANGE])
async def test_what_was_given_for_it_goes_on_in_its_place(grant: str, client: Aws, emulator: Emulator) -> None:
    proofs = {CODE: emulator.authorization_code, BEARER: lambda: emulator.jwt(APPLICATION_ARN)}
    proof = proofs.get(grant, lambda: emulator.identity_center_token(OTHER_APPLICATION_ARN))()
    more: dict[str, Any] = {"requestedTokenType": f"{TYPE}refresh_token"} if grant == EXCHANGE else {}
    first = await call(client, PipelineValues(credentials=USER, proof=proof), grant, **more)
    second = await call(client, PipelineValues(credentials=USER, refresh_token=first.refresh_token), grant, **more)
    third = await call(client, PipelineValues(credentials=USER, refresh_token=second.refresh_token), grant, **more)

    assert len({first.refresh_token, second.refresh_token, third.refresh_token, None}) == 4
    assert emulator.identity_center_family(first.refresh_token or "").consumed == [0, 1]


async def test_a_refresh_token_is_replaced(client: Aws, emulator: Emulator) -> None:
    before = with_refresh_token(emulator)
    held = await call(client, before, "refresh_token", scope=["openid"])

    assert held.refresh_token not in (None, before.newest_token.value)
    assert held.identity_context is None


@pytest.mark.parametrize("which", ["accessToken", "idToken"])
async def test_an_assertion_is_the_newest_token_or_the_id_token(which: str, client: Aws, emulator: Emulator) -> None:
    good, bad = Token(emulator.jwt(APPLICATION_ARN)), Token(emulator.jwt("somebody"))
    given = PipelineValues(credentials=USER, access_token=good if which == "accessToken" else bad, id_token=good)
    chosen: dict[str, Any] = {"from": which}
    held = await call(client, given, BEARER, **chosen)

    assert held.identity_context


async def test_an_assertion_is_not_taken_twice(client: Aws, emulator: Emulator) -> None:
    held = PipelineValues(Token(emulator.jwt(APPLICATION_ARN)), credentials=USER)
    await call(client, held, BEARER)

    assert (await failing(client, held, BEARER)).reason == "SourceInvalid"


@pytest.mark.parametrize("requested", [None, f"{TYPE}access_token", f"{TYPE}refresh_token"])
async def test_a_token_of_another_application_is_exchanged(
    requested: str | None, client: Aws, emulator: Emulator
) -> None:
    subject = PipelineValues(Token(emulator.identity_center_token(OTHER_APPLICATION_ARN)), credentials=USER)
    held = await call(client, subject, EXCHANGE, requestedTokenType=requested)
    own = await failing(client, PipelineValues(Token(emulator.identity_center_token()), credentials=USER), EXCHANGE)

    assert held.access_token
    assert held.refresh_token is None
    assert own.reason == "SourceInvalid"


async def test_the_context_goes_with_the_next_role(client: Aws, emulator: Emulator) -> None:
    held = await call(client, with_code(emulator), CODE)
    wanted = request(source=BOTH["source"], exchanges=[ASSUME])
    given = await exchange(context(client), wanted, wanted.spec.exchanges[0], held)
    count = emulator.calls("AssumeRole:with context")
    made_up = PipelineValues(credentials=USER, identity_context="made-up")
    with pytest.raises(KeyturnError) as refused:
        await exchange(context(client), wanted, wanted.spec.exchanges[0], made_up)

    assert given.credentials
    assert given.credentials.session_token
    assert count == 1
    assert "ValidationError" in refused.value.message


async def test_a_context_that_only_the_id_token_has(client: Aws, emulator: Emulator) -> None:
    token = jwt.encode({"sts:identity_context": "the-context"}, "k" * 32, "HS256")
    held = await call(Answering(idToken=token, accessToken="a", expiresIn=60), with_code(emulator), CODE)  # type: ignore[arg-type]
    none = await call(Answering(idToken="opaque", accessToken="a", expiresIn=60), with_code(emulator), CODE)  # type: ignore[arg-type]

    assert (held.identity_context, none.identity_context) == ("the-context", None)


class Answering:
    """An AWS that answers this, and notes how often it would be sent."""

    def __init__(self, **members: Any) -> None:
        self._members, self.attempts = members, 0

    async def call(self, operation: Any, *_: object) -> Any:
        from keyturn.exchanges.aws import AwsResponse  # noqa: PLC0415

        self.attempts = operation.attempts
        return AwsResponse(self._members, "id", real_now())


@pytest.mark.parametrize(
    ("grant", "held", "attempts"),
    [
        pytest.param(CODE, {"proof": "p"}, 1, id="a code"),
        pytest.param("refresh_token", {}, 1, id="a refresh token"),
        pytest.param(BEARER, {}, 1, id="an assertion"),
        pytest.param(EXCHANGE, {}, 3, id="a subject token"),
        pytest.param(EXCHANGE, {"proof": "p"}, 1, id="a subject token for a refresh token"),
        pytest.param(EXCHANGE, {"refresh_token": "r"}, 1, id="what it gave"),
    ],
)
async def test_what_may_be_used_up_is_sent_once(grant: str, held: dict[str, str], attempts: int) -> None:
    answering = Answering(accessToken="a", expiresIn=60)
    await call(answering, PipelineValues(Token("t"), credentials=USER, **held), grant)  # type: ignore[arg-type]

    assert answering.attempts == attempts


async def test_the_source_token_is_not_taken_for_one_that_was_not_given() -> None:
    answering = Answering(refreshToken="r", expiresIn=60)
    error = await failing(answering, PipelineValues(Token("t"), credentials=USER), EXCHANGE)  # type: ignore[arg-type]

    assert (error.reason, getattr(error, "outcome_unknown", None)) == ("Unavailable", False)


@pytest.mark.parametrize(
    ("fault", "reason", "outcome_unknown"),
    [
        pytest.param({"drop": "after"}, "Unreachable", True, id="the lost answer"),
        pytest.param({"drop": "before"}, "Unreachable", True, id="dropped before: nobody can tell"),
        pytest.param({"code": "InternalServerException", "status": 500}, "Unavailable", True, id="500"),
        pytest.param({"status": 502}, "Unavailable", True, id="502 of something between"),
        pytest.param({"status": 503}, "Unavailable", False, id="503: it was not handled"),
        pytest.param({"body": "html"}, "Unavailable", True, id="a page"),
        pytest.param({"code": "SlowDownException"}, "Throttled", False, id="a throttle: it was not handled"),
    ],
)
async def test_a_lost_answer_is_a_doubt_and_is_not_asked_for_again(
    fault: dict[str, Any], reason: str, client: Aws, emulator: Emulator, *, outcome_unknown: bool
) -> None:
    emulator.fault(CREATE, times=None, **fault)
    error = await failing(client, with_refresh_token(emulator), "refresh_token")

    assert isinstance(error, UnavailableError)
    assert (error.reason, error.outcome_unknown) == (reason, outcome_unknown)
    assert emulator.calls(CREATE) == 1


async def test_a_closed_port_leaves_no_doubt(emulator: Emulator, unused_tcp_port: int) -> None:
    client = aws(AwsSettings(endpoints={"sso-oidc": f"http://127.0.0.1:{unused_tcp_port}"}))
    error = await failing(client, with_refresh_token(emulator), "refresh_token")
    client.close()

    assert isinstance(error, UnavailableError)
    assert (error.reason, error.outcome_unknown) == ("Unreachable", False)


@pytest.mark.parametrize(
    ("code", "status", "reason", "hint"),
    [
        ("InvalidRequestException", 400, "InvalidSpec", "redirectUri"),
        ("InvalidClientException", 401, "AccessDenied", "clientId"),
        ("InvalidGrantException", 400, "SourceInvalid", "sign in again"),
        ("UnauthorizedClientException", 400, "AccessDenied", "clientId"),
        ("UnsupportedGrantTypeException", 400, "InvalidSpec", "does not allow this grant"),
        ("InvalidScopeException", 400, "InvalidSpec", "no such scope"),
        ("AuthorizationPendingException", 400, "Unavailable", "not signed in"),
        ("SlowDownException", 400, "Throttled", ""),
        ("AccessDeniedException", 400, "AccessDenied", "assigned to the application"),
        ("ExpiredTokenException", 400, "SourceExpired", "has expired"),
        ("InternalServerException", 500, "Unavailable", ""),
        ("InvalidRequestRegionException", 400, "InvalidSpec", "of another region (eu-west-1)"),
        ("UnrecognizedClientException", 403, "AccessDenied", "access keys that sign it"),
        ("InvalidSignatureException", 403, "AccessDenied", "access keys that sign it"),
    ],
)
async def test_each_error_of_create_token(
    code: str, status: int, reason: str, hint: str, client: Aws, emulator: Emulator
) -> None:
    members = {"region": "eu-west-1", "endpoint": "https://evil.example"} if "Region" in code else {}
    emulator.fault(CREATE, code=code, status=status, message="planted", members=members)
    error = await failing(client, with_refresh_token(emulator), "refresh_token")

    assert error.reason == reason
    assert error.message.startswith(f"Identity Center CreateTokenWithIAM: {code}")
    assert hint in error.message
    assert "planted" not in error.message + repr(vars(error))
    assert "evil" not in error.message


async def test_a_user_without_an_assignment(client: Aws, emulator: Emulator) -> None:
    held = PipelineValues(Token(emulator.jwt(APPLICATION_ARN, subject="stranger")), credentials=USER)
    error = await failing(client, held, BEARER)

    assert (error.reason, "is the user assigned to the application" in error.message) == ("AccessDenied", True)


async def portal(client: Aws, token: str, **changes: str) -> PipelineValues:
    wanted = request(exchanges=[{"identityCenterGetRoleCredentials": {**ROLES[next(iter(ROLES))], **changes}}])
    return await exchange(context(client), wanted, wanted.spec.exchanges[0], PipelineValues(Token(token)))


async def test_a_token_becomes_the_credentials_of_a_permission_set(client: Aws, emulator: Emulator) -> None:
    held = await portal(client, emulator.identity_center_token())

    assert held.credentials
    assert held.credentials.expires_at
    assert abs(held.credentials.expires_at - real_now() - HOUR) < 5 * SECOND
    assert {held.credentials.secret_access_key, held.credentials.session_token} <= {*emulator.secrets()}


@pytest.mark.parametrize(
    ("code", "status", "reason", "hint"),
    [
        ("InvalidRequestException", 400, "InvalidSpec", "roleName"),
        ("UnauthorizedException", 401, "SourceInvalid", "sign in again"),
        ("TooManyRequestsException", 429, "Throttled", ""),
        ("ResourceNotFoundException", 404, "AccessDenied", "assigned"),
        ("ForbiddenException", 403, "AccessDenied", "assigned"),
    ],
)
async def test_each_error_of_the_portal(
    code: str, status: int, reason: str, hint: str, client: Aws, emulator: Emulator
) -> None:
    emulator.fault(PORTAL, times=None, code=code, status=status, message="planted")
    with pytest.raises(KeyturnError) as raised:
        await portal(client, emulator.identity_center_token())

    assert (raised.value.reason, hint in raised.value.message) == (reason, True)
    assert "planted" not in raised.value.message


@pytest.mark.parametrize("changes", [{"roleName": "Admin"}, {"accountId": "999999999999"}])
async def test_what_the_user_is_not_assigned_to(changes: dict[str, str], client: Aws, emulator: Emulator) -> None:
    with pytest.raises(KeyturnError) as raised:
        await portal(client, emulator.identity_center_token(), **changes)

    assert raised.value.reason == "AccessDenied"


async def test_a_session_that_was_ended(client: Aws, emulator: Emulator) -> None:
    token = emulator.identity_center_token()
    emulator.control("DELETE", "identity-center-sessions")
    with pytest.raises(KeyturnError) as raised:
        await portal(client, token)

    assert (raised.value.reason, "session was ended" in raised.value.message) == ("SourceInvalid", True)


@pytest.mark.parametrize("token", ["a\r\nb: c", "a b", "é", ""])
async def test_what_is_no_token_is_not_put_into_a_header(token: str, client: Aws, emulator: Emulator) -> None:
    with pytest.raises(KeyturnError) as raised:
        await portal(client, token)

    assert (raised.value.reason, emulator.calls(PORTAL)) == ("SourceInvalid", 0)
    assert "the access token is empty or holds characters that no token has" in raised.value.message
