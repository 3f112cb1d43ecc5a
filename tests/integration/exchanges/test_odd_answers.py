"""Whatever AWS, or something between us and AWS, answers: one of our errors, or what can be written."""

import copy
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from keyturn.core.errors import KeyturnError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.registry import exchange
from tests.integration.exchanges.test_places import SOURCE, STEPS
from tests.support.dependencies import request
from tests.support.exchange_steps import aws, context
from tests.support.manifests.tokens import BEARER

KEYS = {"AccessKeyId": "ASIA1", "SecretKey": "key", "SessionToken": "session", "Expiration": 4e9}
ROLE_KEYS = {"accessKeyId": "ASIA1", "secretAccessKey": "key", "sessionToken": "s", "expiration": 4 * 10**12}
LOGIN = {"authorizationToken": "QVdTOnBhc3M=", "expiresAt": 4e9, "proxyEndpoint": "https://1.dkr.ecr.aws"}
GOOD: dict[str, dict[str, Any]] = {
    "licenseManagerGetAccessToken": {"AccessToken": "token"},
    "licenseManagerCreateToken": {"Token": "token", "TokenId": "id"},
    "identityCenterCreateToken": {
        "accessToken": "token",
        "expiresIn": 3600,
        "refreshToken": "refresh",
        "idToken": "id",
        "awsAdditionalDetails": {"identityContext": "context"},
    },
    "identityCenterGetRoleCredentials": {"roleCredentials": ROLE_KEYS},
    "cognitoGetCredentials": {"IdentityId": "us-east-1:1", "Credentials": KEYS},
    "cognitoGetOpenIdToken": {"IdentityId": "us-east-1:1", "Token": "token"},
    "codeArtifactGetAuthorizationToken": {"authorizationToken": "token", "expiration": 4e9},
    "ecrGetAuthorizationToken": {"authorizationData": [LOGIN]},
}
ODD: tuple[Any, ...] = (
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
STS = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>key</SecretAccessKey><SessionToken>session</SessionToken>
<Expiration>2100-01-01T00:00:00Z</Expiration></Credentials><AssumedRoleUser><Arn>arn:1</Arn></AssumedRoleUser>
</AssumeRoleResult></AssumeRoleResponse>"""


class Body:
    """A body as urllib3 gives it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def stream(self, **_: object) -> Iterator[bytes]:
        yield self._text.encode()


class Answering:
    """A client of AWS that answers itself, what it was told last."""

    def __init__(self, client: Aws) -> None:
        self.client, self.body = client, ""
        client._session._session.register("before-send", self._answer)  # type: ignore[arg-type]

    def _answer(self, **about: Any) -> AWSResponse:
        return AWSResponse(about["request"].url, 200, HTTPHeaders(), Body(self.body))

    async def call(self, operation: str, body: str, **fields: Any) -> PipelineValues | KeyturnError:
        """Take the step; what is raised is one of our errors, or the test fails with it."""
        self.body = body
        wanted = request(source=SOURCE, exchanges=[{operation: STEPS[operation][0] | fields}])
        held = PipelineValues(Token("token"), credentials=Credentials("AKIA1", "key"), identity_id="us-east-1:1")
        try:
            return await exchange(context(self.client), wanted, wanted.spec.exchanges[0], held)
        except KeyturnError as error:
            return error


@pytest.fixture(scope="module")
def answering() -> Iterator[Answering]:
    with closing(aws()) as client:
        yield Answering(client)


def _places(value: Any) -> Iterator[tuple[Any, ...]]:
    """The paths to everything in an answer, itself among them."""
    yield ()
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield from ((key, *path) for path in _places(one))


def _changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    if not path:
        return to
    changed = copy.copy(value)
    changed[path[0]] = _changed(value[path[0]], path[1:], to)
    return changed


@pytest.mark.parametrize(("operation", "good"), GOOD.items(), ids=GOOD)
async def test_an_odd_member_is_no_bug(operation: str, good: dict[str, Any], answering: Answering) -> None:
    assert isinstance(await answering.call(operation, json.dumps(good)), PipelineValues)
    for path in _places(good):
        for odd in ODD:
            await answering.call(operation, json.dumps(_changed(good, path, odd)))


@pytest.mark.parametrize("old", ["ASIA1", "session", "2100-01-01T00:00:00Z", "arn:1", "Credentials", "<", "A"])
@pytest.mark.parametrize("new", ["", "\n", "é", "1", "9" * 30, "<a/>", "&amp;", "9999-12-31T23:59:59Z", "\x00"])
async def test_an_odd_page_of_sts_is_no_bug(old: str, new: str, answering: Answering) -> None:
    assert isinstance(await answering.call("assumeRole", STS), PipelineValues)
    await answering.call("assumeRole", STS.replace(old, new))


@pytest.mark.parametrize(
    ("member", "odd"),
    [
        *(("accessToken", odd) for odd in ODD),
        *(("idToken", odd) for odd in ODD),
        # What is no number at all, botocore's own parser does not get past.
        *(("expiresIn", odd) for odd in ODD if odd is None or isinstance(odd, int | float)),
    ],
    ids=str,
)
async def test_a_refresh_token_is_not_lost_for_what_else_is_odd(member: str, odd: Any, answering: Answering) -> None:
    answer = GOOD["identityCenterCreateToken"] | {member: odd}
    held = await answering.call("identityCenterCreateToken", json.dumps(answer), grantType=BEARER)

    assert isinstance(held, PipelineValues)
    assert held.refresh_token == "refresh"
