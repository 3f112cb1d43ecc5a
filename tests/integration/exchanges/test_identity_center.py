from contextlib import closing
from typing import Any
from unittest.mock import Mock

import jwt
import pytest

from keyturn.api.times import whole_seconds
from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError, ThrottledError, UnavailableError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.exchanges import identity_center
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.registry import prepare
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
from tests.support.exchange_steps import aws, context, emulator_settings, exchange
from tests.support.manifests.tokens import BEARER, EXCHANGE, TOKEN_AND_KEYS, TYPE, center

CREATE, PORTAL = "CreateTokenWithIAM", "GetRoleCredentials"
USER = Credentials(USER_KEY_ID, USER_SECRET_KEY)
VERIFIER = "verifier-of-forty-three-characters-or-more-"
CODE = "authorization_code"
ROLES = {"identityCenterGetRoleCredentials": {"roleName": PERMISSION_SET, "accountId": ACCOUNT}}
ASSUME = {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN}}


def center_request(grant: str, **changes: Any) -> Request:
    """A request whose only exchange is with Identity Center."""
    fields = {"clientId": APPLICATION_ARN, "grantType": grant, "redirectUri": None, "codeFrom": None} | changes
    if grant == CODE:
        fields |= {"redirectUri": REDIRECT_URI, "codeFrom": {"secretKeyRef": {"name": "sign-in", "key": "code"}}}
    before = [REFRESH] if "from" in changes else []
    return request(source=TOKEN_AND_KEYS["source"], exchanges=[*before, *center(**fields)["exchanges"]])


async def call(
    client: Aws, values: PipelineValues, grant: str, secrets: dict[str, str] | None = None, **more: Any
) -> PipelineValues:
    token_request = center_request(grant, **more)
    return await exchange(context(client, values=secrets), token_request, token_request.spec.exchanges[-1], values)


async def fail_call(client: Aws, values: PipelineValues, grant: str, **more: Any) -> KeyturnError:
    with pytest.raises(KeyturnError) as raised:
        await call(client, values, grant, **more)
    return raised.value


def with_code(emulator: Emulator, **more: Any) -> PipelineValues:
    return PipelineValues(credentials=USER, single_use_credential=emulator.authorization_code(**more))


def with_refresh_token(emulator: Emulator) -> PipelineValues:
    return PipelineValues(Token(emulator.identity_center_token(refresh=True)), credentials=USER)


async def test_code_is_exchanged_for_tokens_and_a_context(client: Aws, emulator: Emulator) -> None:
    before = whole_seconds(real_now())
    values = await call(client, with_code(emulator), CODE)

    assert values.access_token
    assert values.id_token
    assert {values.access_token.value, values.id_token.value, values.refresh_token} <= {*emulator.secrets()}
    assert values.access_token.expires_at
    assert values.access_token.expires_at == whole_seconds(values.access_token.expires_at)
    assert 0 * SECOND <= values.access_token.expires_at - before - HOUR < 5 * SECOND
    claims = jwt.decode(values.id_token.value, options={"verify_signature": False})
    assert values.identity_context == claims["sts:identity_context"]


async def test_code_verifier_is_sent(client: Aws, emulator: Emulator) -> None:
    verifier = {"codeVerifierFrom": {"secretKeyRef": {"name": "verifier", "key": "v"}}}
    values = await call(client, with_code(emulator, verifier=VERIFIER), CODE, {"verifier": VERIFIER}, **verifier)
    error = await fail_call(client, with_code(emulator, verifier=VERIFIER), CODE)

    assert values.access_token
    assert (error.reason, "InvalidGrantException" in error.message) == ("SourceInvalid", True)


@pytest.mark.parametrize("grant", [CODE, BEARER, EXCHANGE])
async def test_refresh_token_replaces_the_single_use_credential(grant: str, client: Aws, emulator: Emulator) -> None:
    credentials_by_grant = {CODE: emulator.authorization_code, BEARER: lambda: emulator.jwt(APPLICATION_ARN)}
    credential = credentials_by_grant.get(grant, lambda: emulator.identity_center_token(OTHER_APPLICATION_ARN))()
    more: dict[str, Any] = {"requestedTokenType": f"{TYPE}refresh_token"} if grant == EXCHANGE else {}
    first = await call(client, PipelineValues(credentials=USER, single_use_credential=credential), grant, **more)
    second = await call(client, PipelineValues(credentials=USER, refresh_token=first.refresh_token), grant, **more)
    third = await call(client, PipelineValues(credentials=USER, refresh_token=second.refresh_token), grant, **more)

    assert len({first.refresh_token, second.refresh_token, third.refresh_token, None}) == 4
    assert emulator.identity_center_family(first.refresh_token or "").consumed == [0, 1]


async def test_refresh_token_is_rotated(client: Aws, emulator: Emulator) -> None:
    before = with_refresh_token(emulator)
    values = await call(client, before, "refresh_token", scope=["openid"])

    assert values.refresh_token not in (None, before.current_token.value)
    assert values.identity_context is None


async def test_bug_does_not_lose_a_new_refresh_token(
    client: Aws, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug = OverflowError("date value out of range")
    monkeypatch.setattr(identity_center, "token_expiry", Mock(side_effect=bug))
    before = with_refresh_token(emulator)
    values = await call(client, before, "refresh_token")

    assert values.refresh_token not in (None, before.current_token.value)
    assert values.error is bug


@pytest.mark.parametrize("which", ["accessToken", "idToken"])
async def test_assertion_is_the_current_or_the_id_token(which: str, client: Aws, emulator: Emulator) -> None:
    valid, invalid = Token(emulator.jwt(APPLICATION_ARN)), Token(emulator.jwt("another-client"))
    inputs = PipelineValues(credentials=USER, access_token=valid if which == "accessToken" else invalid, id_token=valid)
    field: dict[str, Any] = {"from": which}
    values = await call(client, inputs, BEARER, **field)

    assert values.identity_context


@pytest.mark.parametrize("requested", [None, f"{TYPE}access_token", f"{TYPE}refresh_token"])
async def test_token_of_another_application_is_exchanged(
    requested: str | None, client: Aws, emulator: Emulator
) -> None:
    subject = PipelineValues(Token(emulator.identity_center_token(OTHER_APPLICATION_ARN)), credentials=USER)
    values = await call(client, subject, EXCHANGE, requestedTokenType=requested)
    same_application = await fail_call(
        client, PipelineValues(Token(emulator.identity_center_token()), credentials=USER), EXCHANGE
    )

    assert values.access_token
    assert values.refresh_token is None
    assert same_application.reason == "SourceInvalid"


async def test_identity_context_is_passed_to_the_next_role(client: Aws, emulator: Emulator) -> None:
    values = await call(client, with_code(emulator), CODE)
    token_request = request(source=TOKEN_AND_KEYS["source"], exchanges=[ASSUME])
    result = await exchange(context(client), token_request, token_request.spec.exchanges[0], values)
    context_calls = emulator.calls("AssumeRole:with context")
    made_up = PipelineValues(credentials=USER, identity_context="made-up")
    with pytest.raises(KeyturnError) as raised:
        await exchange(context(client), token_request, token_request.spec.exchanges[0], made_up)

    assert result.credentials
    assert result.credentials.session_token
    assert context_calls == 1
    assert "ValidationError" in raised.value.message


async def test_identity_context_is_read_from_the_id_token(client: Aws, emulator: Emulator) -> None:
    token = jwt.encode({"sts:identity_context": "the-context"}, "k" * 32, "HS256")
    values = await call(FakeAws(idToken=token, accessToken="a", expiresIn=60), with_code(emulator), CODE)  # type: ignore[arg-type]
    opaque = await call(FakeAws(idToken="opaque", accessToken="a", expiresIn=60), with_code(emulator), CODE)  # type: ignore[arg-type]

    assert (values.identity_context, opaque.identity_context) == ("the-context", None)


class FakeAws:
    """Returns these members, and records the number of attempts that the operation allows."""

    def __init__(self, **members: Any) -> None:
        self._members, self.attempts = members, 0

    async def call(self, operation: Any, *_: object, **__: object) -> Any:
        from keyturn.exchanges.aws import AwsResponse  # noqa: PLC0415

        self.attempts = operation.attempts
        return AwsResponse(self._members, "id", real_now())

    def check_rate(self, *_: object) -> None:
        """No call was throttled."""


@pytest.mark.parametrize(
    ("grant", "values", "attempts"),
    [
        pytest.param(CODE, {"single_use_credential": "p"}, 1, id="a code"),
        pytest.param("refresh_token", {}, 1, id="a refresh token"),
        pytest.param(BEARER, {}, 1, id="an assertion"),
        pytest.param(EXCHANGE, {}, 3, id="a subject token"),
        pytest.param(EXCHANGE, {"single_use_credential": "p"}, 1, id="a subject token for a refresh token"),
        pytest.param(EXCHANGE, {"refresh_token": "r"}, 1, id="its refresh token"),
    ],
)
async def test_consuming_call_is_attempted_once(grant: str, values: dict[str, str], attempts: int) -> None:
    fake_aws = FakeAws(accessToken="a", expiresIn=60)
    await call(fake_aws, PipelineValues(Token("t"), credentials=USER, **values), grant)  # type: ignore[arg-type]

    assert fake_aws.attempts == attempts


async def test_missing_access_token_is_not_replaced_by_the_source() -> None:
    fake_aws = FakeAws(refreshToken="r", expiresIn=60)
    error = await fail_call(fake_aws, PipelineValues(Token("t"), credentials=USER), EXCHANGE)  # type: ignore[arg-type]

    assert (error.reason, getattr(error, "outcome_unknown", None)) == ("Unavailable", False)


@pytest.mark.parametrize(
    ("fault", "reason", "outcome_unknown"),
    [
        pytest.param({"drop": "after"}, "Unreachable", True, id="a lost response"),
        pytest.param({"drop": "before"}, "Unreachable", True, id="a connection dropped before processing"),
        pytest.param({"code": "InternalServerException", "status": 500}, "Unavailable", True, id="500"),
        pytest.param({"status": 502}, "Unavailable", True, id="502 of a proxy"),
        pytest.param({"status": 503}, "Unavailable", False, id="503: not processed"),
        pytest.param({"body": "html"}, "Unavailable", True, id="an HTML page"),
        pytest.param({"code": "SlowDownException"}, "Throttled", False, id="throttled: not processed"),
    ],
)
async def test_lost_response_leaves_the_outcome_unknown(
    fault: dict[str, Any], reason: str, client: Aws, emulator: Emulator, *, outcome_unknown: bool
) -> None:
    emulator.fault(CREATE, times=None, **fault)
    error = await fail_call(client, with_refresh_token(emulator), "refresh_token")

    assert isinstance(error, UnavailableError)
    assert (error.reason, error.outcome_unknown) == (reason, outcome_unknown)
    assert emulator.calls(CREATE) == 1


async def test_lost_assertion_of_an_earlier_exchange_is_retryable(client: Aws, emulator: Emulator) -> None:
    emulator.fault(CREATE, drop="after", times=None)
    values = PipelineValues(Token("source"), credentials=USER, id_token=Token(emulator.jwt(APPLICATION_ARN)))
    error = await fail_call(client, values, BEARER, **{"from": "idToken"})

    assert isinstance(error, UnavailableError)
    # AWS may have accepted it, so botocore must not repeat it; the next attempt starts with a new one.
    assert (error.reason, error.outcome_unknown, emulator.calls(CREATE)) == ("Unreachable", False, 1)


async def test_known_rate_limit_is_checked_before_a_token_is_consumed(emulator: Emulator) -> None:
    token_request, values = center_request("refresh_token"), with_refresh_token(emulator)
    emulator.fault(CREATE, code="SlowDownException", headers={"Retry-After": "30"})
    with closing(aws(emulator_settings(emulator))) as client:
        await fail_call(client, values, "refresh_token")
        with pytest.raises(ThrottledError) as raised:
            await prepare(context(client), token_request, token_request.spec.exchanges[-1], values)

    assert (raised.value.nothing_sent, emulator.calls(CREATE)) == (True, 1)


async def test_region_of_a_redirect_is_named_but_not_its_host(client: Aws, emulator: Emulator) -> None:
    members = {"region": "eu-west-1", "endpoint": "https://evil.example"}
    emulator.fault(CREATE, code="InvalidRequestRegionException", members=members)
    error = await fail_call(client, with_refresh_token(emulator), "refresh_token")

    assert (error.message.endswith("another region (eu-west-1)"), "evil" in error.message) == (True, False)


async def test_user_without_an_assignment_is_denied(client: Aws, emulator: Emulator) -> None:
    values = PipelineValues(Token(emulator.jwt(APPLICATION_ARN, subject="stranger")), credentials=USER)
    error = await fail_call(client, values, BEARER)

    assert (error.reason, "the user is assigned to the application" in error.message) == ("AccessDenied", True)


async def get_role_credentials(client: Aws, token: str, **changes: str) -> PipelineValues:
    token_request = request(exchanges=[{"identityCenterGetRoleCredentials": {**ROLES[next(iter(ROLES))], **changes}}])
    return await exchange(context(client), token_request, token_request.spec.exchanges[0], PipelineValues(Token(token)))


async def test_token_is_exchanged_for_role_credentials(client: Aws, emulator: Emulator) -> None:
    values = await get_role_credentials(client, emulator.identity_center_token())

    assert values.credentials
    assert values.credentials.expires_at
    assert abs(values.credentials.expires_at - real_now() - HOUR) < 5 * SECOND
    assert {values.credentials.secret_access_key, values.credentials.session_token} <= {*emulator.secrets()}


async def test_namespaces_that_share_an_account_share_its_rate() -> None:
    class Recorder:
        namespace = ""

        async def call(self, *_: object, namespace: str = "", **__: object) -> None:
            self.namespace = namespace
            raise UnavailableError("Unavailable", "recorded")

    recorder: Any = Recorder()
    with pytest.raises(UnavailableError, match="recorded"):
        await get_role_credentials(recorder, "token")

    assert recorder.namespace == "billing"


@pytest.mark.parametrize("changes", [{"roleName": "Admin"}, {"accountId": "999999999999"}])
async def test_unassigned_permission_set_is_denied(changes: dict[str, str], client: Aws, emulator: Emulator) -> None:
    with pytest.raises(KeyturnError) as raised:
        await get_role_credentials(client, emulator.identity_center_token(), **changes)

    assert raised.value.reason == "AccessDenied"


async def test_ended_session_is_reported(client: Aws, emulator: Emulator) -> None:
    token = emulator.identity_center_token()
    emulator.control("DELETE", "identity-center-sessions")
    with pytest.raises(KeyturnError) as raised:
        await get_role_credentials(client, token)

    assert (raised.value.reason, "session has ended" in raised.value.message) == ("SourceInvalid", True)


@pytest.mark.parametrize("token", ["a\r\nb: c", "a b", "é", ""])
async def test_malformed_token_is_not_sent_in_a_header(token: str, client: Aws, emulator: Emulator) -> None:
    with pytest.raises(KeyturnError) as raised:
        await get_role_credentials(client, token)

    assert (raised.value.reason, emulator.calls(PORTAL)) == ("SourceInvalid", 0)
    assert "the access token is empty or contains characters that are not valid in a token" in raised.value.message
