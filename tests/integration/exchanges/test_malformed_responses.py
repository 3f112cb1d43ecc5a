"""A malformed response from AWS or a proxy results in a KeyturnError, or in values that can be written."""

import copy
import json
import math
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from keyturn.core.errors import KeyturnError, TransientRefusalError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.exchanges.aws import Aws
from tests.support.cases import cases
from tests.support.clock import real_now
from tests.support.dependencies import DAY, HOUR, MINUTE, ROLE, request, signed
from tests.support.exchange_steps import CENTER_TOKENS, EXAMPLE_STEPS, TOKEN_AND_CREDENTIALS, aws, context, exchange
from tests.support.manifests.tokens import BEARER

RESPONSES = {name: step.response for name, step in EXAMPLE_STEPS.items() if step.response is not None}
UNEXPECTED: tuple[Any, ...] = (
    None,
    1,
    -1,
    10**30,
    -(10**30),
    1.5,
    True,
    "",
    "a",
    'a\n"b',
    "\ud83d",
    [],
    [1],
    {},
    {"a": 1},
    "é" * 5000,
)
# Numbers that a float cannot represent.
HUGE = (math.inf, -math.inf, 10**400)
STS = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>key</SecretAccessKey><SessionToken>session</SessionToken>
<Expiration>2100-01-01T00:00:00Z</Expiration></Credentials><AssumedRoleUser><Arn>arn:1</Arn></AssumedRoleUser>
</AssumeRoleResult></AssumeRoleResponse>"""


class Body:
    """A response body with the interface of urllib3."""

    def __init__(self, text: str) -> None:
        self._text = text

    def stream(self, **_: object) -> Iterator[bytes]:
        yield self._text.encode()


class FakeAws:
    """A client that returns the configured body instead of calling AWS."""

    def __init__(self, client: Aws) -> None:
        self.client, self.body = client, ""
        client._session._session.register("before-send", self._respond)  # type: ignore[arg-type]

    def _respond(self, **event: Any) -> AWSResponse:
        return AWSResponse(event["request"].url, 200, HTTPHeaders(), Body(self.body))

    async def call(self, operation: str, body: str, **fields: Any) -> PipelineValues | KeyturnError:
        """Run the exchange. Any exception but KeyturnError fails the test."""
        self.body = body
        token_request = request(
            source=TOKEN_AND_CREDENTIALS, exchanges=[{operation: EXAMPLE_STEPS[operation].fields | fields}]
        )
        values = PipelineValues(Token("token"), credentials=Credentials("AKIA1", "key"), identity_id="us-east-1:1")
        try:
            return await exchange(context(self.client), token_request, token_request.spec.exchanges[0], values)
        except KeyturnError as error:
            return error


@pytest.fixture(scope="module")
def fake_aws() -> Iterator[FakeAws]:
    with closing(aws()) as client:
        yield FakeAws(client)


def _paths(value: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the path to each value in a response, starting with the response itself."""
    yield ()
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield from ((key, *path) for path in _paths(child))


def _with_value(value: Any, path: tuple[Any, ...], replacement: Any) -> Any:
    if not path:
        return replacement
    changed = copy.copy(value)
    changed[path[0]] = _with_value(value[path[0]], path[1:], replacement)
    return changed


@pytest.mark.parametrize(("operation", "response"), RESPONSES.items(), ids=RESPONSES)
async def test_malformed_json_member_raises_only_keyturn_errors(
    operation: str, response: dict[str, Any], fake_aws: FakeAws
) -> None:
    assert isinstance(await fake_aws.call(operation, json.dumps(response)), PipelineValues)
    for path in _paths(response):
        for unexpected in (*UNEXPECTED, *HUGE):
            await fake_aws.call(operation, json.dumps(_with_value(response, path, unexpected)))


@pytest.mark.parametrize("old", ["ASIA1", "session", "2100-01-01T00:00:00Z", "arn:1", "Credentials", "<", "A"])
@pytest.mark.parametrize("new", ["", "\n", "é", "1", "9" * 30, "<a/>", "&amp;", "9999-12-31T23:59:59Z", "\x00"])
async def test_malformed_sts_xml_raises_only_keyturn_errors(old: str, new: str, fake_aws: FakeAws) -> None:
    assert isinstance(await fake_aws.call("assumeRole", STS), PipelineValues)
    await fake_aws.call("assumeRole", STS.replace(old, new))


@cases("length, is_accepted", {"as long as a value may be": (32_768, True), "longer": (32_769, False)})
async def test_long_session_token_is_accepted(length: int, fake_aws: FakeAws, *, is_accepted: bool) -> None:
    values = await fake_aws.call("assumeRole", STS.replace("session", "s" * length))

    assert isinstance(values, PipelineValues) == is_accepted


# The expiry is in the XML, in seconds or in milliseconds. A refresh token is saved before it is checked. The `exp` of a
# JWT with a documented lifetime is ignored if it is over.
EXPIRED_RESPONSES = {"assumeRole": STS.replace("2100-", "2000-")} | {
    name: json.dumps(response).replace("4000000000", "1000000000")
    for name, response in RESPONSES.items()
    if "4000000000" in json.dumps(response) and name != "identityCenterCreateToken"
}


@pytest.mark.parametrize(("operation", "body"), EXPIRED_RESPONSES.items(), ids=EXPIRED_RESPONSES)
async def test_response_that_has_expired_at_receipt_is_refused(operation: str, body: str, fake_aws: FakeAws) -> None:
    error = await fake_aws.call(operation, body)

    assert isinstance(error, TransientRefusalError)
    assert "that expired at 20" in error.message


@pytest.mark.parametrize(
    ("member", "unexpected"),
    [
        *(("accessToken", unexpected) for unexpected in UNEXPECTED),
        *(("idToken", unexpected) for unexpected in UNEXPECTED),
        *(("expiresIn", unexpected) for unexpected in (*UNEXPECTED, *HUGE)),
        *(("awsAdditionalDetails", unexpected) for unexpected in (*UNEXPECTED, *HUGE)),
        *(("scope", unexpected) for unexpected in (*UNEXPECTED, *HUGE)),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_refresh_token_survives_other_malformed_members(member: str, unexpected: Any, fake_aws: FakeAws) -> None:
    response = CENTER_TOKENS | {member: unexpected}
    values = await fake_aws.call("identityCenterCreateToken", json.dumps(response), grantType=BEARER)

    assert isinstance(values, PipelineValues)
    assert values.refresh_token == "refresh"


@pytest.mark.parametrize("moment", [0, -1, 1000])
@pytest.mark.parametrize(
    ("operation", "path"),
    [
        ("identityCenterGetRoleCredentials", ("roleCredentials", "expiration")),
        ("cognitoGetCredentials", ("Credentials", "Expiration")),
        ("codeArtifactGetAuthorizationToken", ("expiration",)),
        ("ecrGetAuthorizationToken", ("authorizationData", 0, "expiresAt")),
    ],
)
async def test_impossible_expiration_is_unavailable(
    operation: str, path: tuple[Any, ...], moment: int, fake_aws: FakeAws
) -> None:
    error = await fake_aws.call(operation, json.dumps(_with_value(RESPONSES[operation], path, moment)))

    assert isinstance(error, KeyturnError)
    assert error.reason == "Unavailable"
    assert f"no {path[-1]}" in error.message or f"an impossible {path[-1]}" in error.message


async def test_impossible_expiration_of_sts_is_unavailable(fake_aws: FakeAws) -> None:
    error = await fake_aws.call("assumeRole", STS.replace("2100-01-01T00:00:00Z", "1970-01-01T00:00:00Z"))

    assert isinstance(error, KeyturnError)
    assert error.message == f"STS AssumeRole for {ROLE} returned an impossible Expiration"


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("opaque", id="opaque"),
        pytest.param(signed(exp=0), id="exp 0"),
        pytest.param(signed(exp=-1), id="exp -1"),
        pytest.param(signed(iat=2 * 10**9, exp=10**9), id="exp before iat"),
    ],
)
@pytest.mark.parametrize(
    ("operation", "member", "lifetime"),
    [
        ("licenseManagerGetAccessToken", "AccessToken", HOUR),
        ("licenseManagerCreateToken", "Token", 365 * DAY),
        ("cognitoGetOpenIdToken", "Token", 10 * MINUTE),
    ],
)
async def test_impossible_exp_is_replaced_by_the_documented_lifetime(
    operation: str, member: str, lifetime: timedelta, token: str, fake_aws: FakeAws
) -> None:
    values = await fake_aws.call(operation, json.dumps(RESPONSES[operation] | {member: token}))

    assert isinstance(values, PipelineValues)
    assert values.access_token
    assert values.access_token.expires_at
    assert abs(values.access_token.expires_at - real_now() - lifetime) < MINUTE
