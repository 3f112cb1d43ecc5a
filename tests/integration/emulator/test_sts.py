import hashlib
import http.client
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.integration.emulator.conftest import USER, Client, as_keys, refusal
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, LICENSE_ARN, LICENSE_ISSUER, ROLE_ARN, TRUST_POLICY
from tests.support.emulator.tokens import SigningKey
from tests.support.emulator.trust_policy import TrustPolicy

SESSION_ARN = f"arn:aws:sts::{ACCOUNT}:assumed-role/LicenseConsumer/demo"
GET_CALLER_IDENTITY = b"Action=GetCallerIdentity&Version=2011-06-15"
Assume = Callable[..., Any]
AMR = "openid-license-manager.amazonaws.com:amr"


def _statement(**changes: Any) -> dict[str, Any]:
    statements: list[dict[str, Any]] = TRUST_POLICY["Statement"]
    return {**statements[0], **changes}


def test_a_session_proves_who_it_is(aws: Emulator, client: Client, assume: Assume) -> None:
    answer = assume()
    identity = client("sts", **as_keys(answer["Credentials"])).get_caller_identity()

    assert answer["AssumedRoleUser"] == {"AssumedRoleId": identity["UserId"], "Arn": SESSION_ARN}
    assert (identity["Account"], identity["Arn"]) == (ACCOUNT, SESSION_ARN)


def test_lifetimes_are_capped_to_seconds(aws: Emulator, assume: Assume) -> None:
    aws.settings(session_seconds=30)

    left = assume(DurationSeconds=900)["Credentials"]["Expiration"] - datetime.now(UTC)  # noqa: TID251 - a real server

    assert timedelta(seconds=20) < left <= timedelta(seconds=30)


def test_a_role_of_its_own(aws: Emulator, assume: Assume) -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:role/path/Own"
    condition = {"ForAnyValue:StringLike": {AMR: "cloud-*"}}
    policy = {**TRUST_POLICY, "Statement": [_statement(Condition=condition)]}
    aws.control("POST", "roles", arn=arn, trust_policy=policy, max_session_seconds=7200)
    answer = assume(aws.refresh_token(["cloud-1"]), RoleArn=arn, DurationSeconds=7200)

    assert answer["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/Own/demo"
    assert refusal(assume, RoleArn=arn) == ("AccessDenied", 403)


def test_a_trust_policy_that_is_not_understood_is_refused(aws: Emulator) -> None:
    policy = {**TRUST_POLICY, "Statement": [_statement(Condition={"NumericLessThan": {AMR: "1"}})]}

    with pytest.raises(ValueError, match="roles: Invalid enum value 'NumericLessThan'"):
        aws.control("POST", "roles", arn=ROLE_ARN, trust_policy=policy)


def _jwt(**changes: Any) -> str:
    return SigningKey().sign(
        {"iss": LICENSE_ISSUER, "aud": LICENSE_ARN, "sub": ACCOUNT, "iat": 1, "exp": 9**10, **changes}
    )


@pytest.mark.parametrize(
    ("changes", "code", "status"),
    [
        pytest.param({"WebIdentityToken": "garbage"}, "InvalidIdentityToken", 400, id="no JWT"),
        pytest.param({"WebIdentityToken": _jwt()}, "InvalidIdentityToken", 400, id="signed by somebody else"),
        pytest.param(
            {"WebIdentityToken": _jwt(iss="https://a.example")}, "InvalidIdentityToken", 400, id="issuer"
        ),
        pytest.param(
            {"ProviderId": "www.amazon.com"}, "InvalidIdentityToken", 400, id="a provider of access tokens"
        ),
        pytest.param({"RoleArn": ROLE_ARN + "2"}, "AccessDenied", 403, id="no such role"),
        pytest.param({"RoleSessionName": "a b"}, "ValidationError", 400, id="a space in the session name"),
        pytest.param({"RoleSessionName": "x" * 65}, "ValidationError", 400, id="a session name of 65 characters"),
        pytest.param({"DurationSeconds": 43201}, "ValidationError", 400, id="over 12 hours"),
        pytest.param({"DurationSeconds": 3601}, "ValidationError", 400, id="over the role's maximum"),
        pytest.param({"Policy": "{"}, "MalformedPolicyDocument", 400, id="a policy that is no JSON"),
    ],
)
def test_assume_role_refuses(changes: dict[str, Any], code: str, status: int, assume: Assume) -> None:
    assert refusal(assume, **changes) == (code, status)


@pytest.mark.parametrize(
    ("minted", "code", "status"),
    [
        pytest.param({"account": "444455556666"}, "AccessDenied", 403, id="of an account that is not trusted"),
        pytest.param({"license_arn": LICENSE_ARN + "9"}, "InvalidIdentityToken", 400, id="for an unknown license"),
    ],
)
def test_assume_role_refuses_a_token(
    minted: dict[str, str], code: str, status: int, aws: Emulator, assume: Assume
) -> None:
    assert refusal(assume, refresh_token=aws.refresh_token(**minted)) == (code, status)  # type: ignore[arg-type]


def test_assume_role_names_an_issuer_that_it_does_not_know(assume: Assume) -> None:
    with pytest.raises(ClientError, match="No OpenIDConnect provider found"):
        assume(WebIdentityToken=_jwt(iss="https://a.example"))


def test_assume_role_refuses_a_refresh_token(aws: Emulator, assume: Assume) -> None:
    assert refusal(assume, WebIdentityToken=aws.refresh_token()) == ("InvalidIdentityToken", 400)


def test_assume_role_refuses_an_expired_token(aws: Emulator, assume: Assume) -> None:
    aws.fault("GetAccessToken", expired=True)

    assert refusal(assume) == ("ExpiredTokenException", 400)


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        pytest.param({"aws_access_key_id": "ASIAUNKNOWN"}, "InvalidClientTokenId", id="an unknown key"),
        pytest.param({"aws_session_token": "other"}, "InvalidClientTokenId", id="another session token"),
        pytest.param({"aws_secret_access_key": "other"}, "SignatureDoesNotMatch", id="a wrong secret"),
        pytest.param({"region": "mars-north-1"}, "SignatureDoesNotMatch", id="signed for no region"),
    ],
)
def test_get_caller_identity_refuses(keys: dict[str, str], code: str, client: Client, assume: Assume) -> None:
    wrong = client("sts", **{**as_keys(assume()["Credentials"]), **keys})

    assert refusal(wrong.get_caller_identity) == (code, 403)


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "cn-north-1", "us-gov-west-1"])
def test_every_region_is_here(region: str, aws: Emulator, client: Client) -> None:
    assert client("sts", region=region, **USER).get_caller_identity()["Account"] == ACCOUNT


@pytest.mark.parametrize(
    ("host", "code"),
    [
        pytest.param("sts.eu-west-1.amazonaws.com", "", id="the region of the host"),
        pytest.param("sts.us-east-1.amazonaws.com", "SignatureDoesNotMatch", id="another region than the host's"),
    ],
)
def test_a_host_that_tells_its_region_is_signed_for_it(
    host: str, code: str, aws: Emulator, client: Client
) -> None:
    asking = client("sts", region="eu-west-1", **USER)
    asking.meta.events.register("before-sign", lambda request, **_: request.headers.add_header("Host", host))
    found = refusal(asking.get_caller_identity)[0] if code else asking.get_caller_identity()["Account"]

    assert found == (code or ACCOUNT)


def test_get_caller_identity_refuses_an_expired_session(aws: Emulator, client: Client, assume: Assume) -> None:
    aws.fault("AssumeRoleWithWebIdentity", expired=True)

    assert refusal(client("sts", **as_keys(assume()["Credentials"])).get_caller_identity) == ("ExpiredToken", 403)


def test_get_caller_identity_refuses_the_unsigned(aws: Emulator, client: Client) -> None:
    assert refusal(client("sts").get_caller_identity) == ("MissingAuthenticationToken", 403)


@pytest.mark.parametrize("seconds", [-310, 310])
def test_a_clock_over_five_minutes_off_is_refused(seconds: int, aws: Emulator, client: Client) -> None:
    aws.settings(clock_offset_seconds=seconds)

    assert refusal(client("sts", **USER).get_caller_identity) == ("SignatureDoesNotMatch", 403)


@pytest.mark.parametrize("seconds", [-290, 290])
def test_a_clock_within_five_minutes_is_accepted(seconds: int, aws: Emulator, client: Client) -> None:
    aws.settings(clock_offset_seconds=seconds)

    assert client("sts", **USER).get_caller_identity()["Account"] == ACCOUNT


def _post(aws: Emulator, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    connection = http.client.HTTPConnection(aws.url.removeprefix("http://"), timeout=10)
    connection.request("POST", "/", body, {"Content-Type": "application/x-www-form-urlencoded", **headers})
    answer = connection.getresponse()
    status, text = answer.status, answer.read().decode()
    connection.close()
    return status, text


def _signed(aws: Emulator, service: str, headers: dict[str, str]) -> dict[str, str]:
    request = AWSRequest("POST", aws.url + "/", headers, GET_CALLER_IDENTITY)
    keys = Credentials(USER["aws_access_key_id"], USER["aws_secret_access_key"])
    SigV4Auth(keys, service, "us-east-1").add_auth(request)
    return dict(request.headers.items())


def test_a_signed_checksum_must_be_that_of_the_body(aws: Emulator) -> None:
    signed = _signed(aws, "sts", {"X-Amz-Content-SHA256": hashlib.sha256(GET_CALLER_IDENTITY).hexdigest()})

    assert _post(aws, GET_CALLER_IDENTITY, signed)[0] == 200
    assert _post(aws, GET_CALLER_IDENTITY + b"&A=1", signed)[0] == 403


@pytest.mark.parametrize(
    ("service", "body", "headers", "status", "code"),
    [
        pytest.param("sts", b"", {}, 200, "<Account>", id="as it was signed"),
        pytest.param("sts", b"&A=1", {}, 403, "SignatureDoesNotMatch", id="another body"),
        pytest.param("iam", b"", {}, 403, "SignatureDoesNotMatch", id="for another service"),
        pytest.param("sts", b"", {"Authorization": "AWS4-HMAC-SHA256"}, 400, "IncompleteSignature", id="half"),
        pytest.param(
            "sts", b"", {"X-Amz-Date": "20200101T000000Z"}, 403, "SignatureDoesNotMatch", id="another date"
        ),
    ],
)
def test_signatures(
    service: str, body: bytes, headers: dict[str, str], status: int, code: str, aws: Emulator
) -> None:
    signed = _signed(aws, service, {})
    answered, text = _post(aws, GET_CALLER_IDENTITY + body, {**signed, **headers})

    assert (answered, code in text) == (status, True)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"RoleArn=arn", "ValidationError", id="what is required is missing"),
        pytest.param(b"Colour=blue", "Member is unknown", id="an unknown parameter"),
        pytest.param(b"DurationSeconds=long", "must be a integer", id="a wrong type"),
        pytest.param(b"PolicyArns.member.1.arn=x", "PolicyArns.1.member.arn", id="deep inside a list"),
        pytest.param(b"Version=2000-01-01", "InvalidAction", id="a version that is not there"),
    ],
)
def test_what_botocore_would_not_send_is_refused(body: bytes, code: str, aws: Emulator) -> None:
    version = b"" if body.startswith(b"Version") else b"&Version=2011-06-15"
    status, text = _post(aws, b"Action=AssumeRoleWithWebIdentity&" + body + version, {})

    assert (status, code in text) == (400, True)


@pytest.mark.parametrize(
    ("statements", "amr", "allowed"),
    [
        pytest.param(
            [{"Condition": {"ForAnyValue:StringLike": {AMR: "on-*"}}}], ["a", "on-1"], True, id="any value"
        ),
        pytest.param([{"Condition": {"ForAnyValue:StringLike": {AMR: "on-?"}}}], ["on-12"], False, id="? is one"),
        pytest.param(
            [{"Condition": {"StringLike": {AMR: "*"}}}], ["a", "b"], False, id="several without ForAnyValue"
        ),
        pytest.param([{"Condition": {"StringEquals": {AMR: ["a", "b"]}}}], ["b"], True, id="one of two wanted"),
        pytest.param(
            [{"Condition": {"StringEquals": {AMR: "*"}}}], ["b"], False, id="StringEquals has no wildcard"
        ),
        pytest.param([{"Condition": {"StringEquals": {"other:amr": "b"}}}], ["b"], False, id="an unknown key"),
        pytest.param([{"Condition": {}}, {"Condition": {}, "Effect": "Deny"}], [], False, id="Deny wins"),
        pytest.param([{"Condition": {}, "Principal": {"Federated": "x"}}], [], False, id="another provider"),
        pytest.param([{"Condition": {}, "Action": "sts:AssumeRole"}], [], False, id="another action"),
    ],
)
def test_trust_policy(statements: list[dict[str, Any]], amr: list[str], *, allowed: bool) -> None:
    document = {**TRUST_POLICY, "Statement": [_statement(**one) for one in statements]}
    policy = msgspec.convert(document, TrustPolicy)
    provider = "openid-license-manager.amazonaws.com"

    assert policy.allows("sts:AssumeRoleWithWebIdentity", {"Federated": {provider}}, {AMR: amr}) is allowed
