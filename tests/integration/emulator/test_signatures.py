import hashlib
import http.client
from collections.abc import Callable
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.cases import cases
from tests.support.emulator.boto import USER, Boto, as_keys, aws_error
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT

GET_CALLER_IDENTITY = b"Action=GetCallerIdentity&Version=2011-06-15"


@cases(
    "keys, code",
    {
        "unknown key": ({"aws_access_key_id": "ASIAUNKNOWN"}, "InvalidClientTokenId"),
        "another session token": ({"aws_session_token": "other"}, "InvalidClientTokenId"),
        "wrong secret key": ({"aws_secret_access_key": "other"}, "SignatureDoesNotMatch"),
        "region does not exist": ({"region": "mars-north-1"}, "SignatureDoesNotMatch"),
    },
)
def test_query_service_refuses(
    keys: dict[str, Any], code: str, boto: Boto, assume_with_token: Callable[..., Any]
) -> None:
    sts = boto("sts", **{**as_keys(assume_with_token()["Credentials"]), **keys})

    assert aws_error(sts.get_caller_identity) == (code, 403)


@cases(
    "keys, code",
    {
        "unsigned": ({}, "MissingAuthenticationTokenException"),
        "wrong secret key": ({**USER, "aws_secret_access_key": "x"}, "InvalidSignatureException"),
        "unknown key": ({**USER, "aws_access_key_id": "AKIAX"}, "UnrecognizedClientException"),
    },
)
def test_json_service_refuses(keys: dict[str, Any], code: str, aws: Emulator, boto: Boto) -> None:
    assert aws_error(boto("license-manager", **keys).delete_token, TokenId="x") == (code, 400)


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "cn-north-1", "us-gov-west-1"])
def test_every_region_is_served(region: str, aws: Emulator, boto: Boto) -> None:
    assert boto("sts", region=region, **USER).get_caller_identity()["Account"] == ACCOUNT


@cases(
    "region, code", {"the signed region": ("eu-west-1", ""), "another region": ("us-east-1", "SignatureDoesNotMatch")}
)
def test_region_of_the_host_must_be_signed(region: str, code: str, aws: Emulator, boto: Boto) -> None:
    sts = boto("sts", region="eu-west-1", **USER)
    host = f"sts.{region}.amazonaws.com"
    sts.meta.events.register("before-sign", lambda request, **_: request.headers.add_header("Host", host))
    result = aws_error(sts.get_caller_identity)[0] if code else sts.get_caller_identity()["Account"]

    assert result == (code or ACCOUNT)


def test_expired_session_is_refused(aws: Emulator, boto: Boto, assume_with_token: Callable[..., Any]) -> None:
    aws.fault("AssumeRoleWithWebIdentity", expired=True)
    sts = boto("sts", **as_keys(assume_with_token()["Credentials"]))

    assert aws_error(sts.get_caller_identity) == ("ExpiredToken", 403)


def test_unsigned_request_is_refused(aws: Emulator, boto: Boto) -> None:
    assert aws_error(boto("sts").get_caller_identity) == ("MissingAuthenticationToken", 403)


@pytest.mark.parametrize("seconds", [-310, 310])
def test_clock_over_five_minutes_off_is_refused(seconds: int, aws: Emulator, boto: Boto) -> None:
    aws.settings(clock_offset_seconds=seconds)

    assert aws_error(boto("sts", **USER).get_caller_identity) == ("SignatureDoesNotMatch", 403)


@pytest.mark.parametrize("seconds", [-290, 290])
def test_clock_within_five_minutes_is_accepted(seconds: int, aws: Emulator, boto: Boto) -> None:
    aws.settings(clock_offset_seconds=seconds)

    assert boto("sts", **USER).get_caller_identity()["Account"] == ACCOUNT


def post(aws: Emulator, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    connection = http.client.HTTPConnection(aws.url.removeprefix("http://"), timeout=10)
    connection.request("POST", "/", body, {"Content-Type": "application/x-www-form-urlencoded", **headers})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def sign(aws: Emulator, service: str, headers: dict[str, str]) -> dict[str, str]:
    request = AWSRequest("POST", aws.url + "/", headers, GET_CALLER_IDENTITY)
    keys = Credentials(USER["aws_access_key_id"], USER["aws_secret_access_key"])
    SigV4Auth(keys, service, "us-east-1").add_auth(request)
    return dict(request.headers.items())


def test_signed_checksum_must_match_the_body(aws: Emulator) -> None:
    checksum = hashlib.sha256(GET_CALLER_IDENTITY).hexdigest()
    headers = sign(aws, "sts", {"X-Amz-Content-SHA256": checksum})

    assert post(aws, GET_CALLER_IDENTITY, headers)[0] == 200
    assert post(aws, GET_CALLER_IDENTITY + b"&A=1", headers)[0] == 403


@cases(
    "service, suffix, headers, status, code",
    {
        "as signed": ("sts", b"", {}, 200, "<Account>"),
        "another body": ("sts", b"&A=1", {}, 403, "SignatureDoesNotMatch"),
        "another service": ("iam", b"", {}, 403, "SignatureDoesNotMatch"),
        "no signature": ("sts", b"", {"Authorization": "AWS4-HMAC-SHA256"}, 400, "IncompleteSignature"),
        "another date": ("sts", b"", {"X-Amz-Date": "20200101T000000Z"}, 403, "SignatureDoesNotMatch"),
    },
)
def test_signature(service: str, suffix: bytes, headers: dict[str, str], status: int, code: str, aws: Emulator) -> None:
    result, text = post(aws, GET_CALLER_IDENTITY + suffix, {**sign(aws, service, {}), **headers})

    assert (result, code in text) == (status, True)


@cases(
    "body, message",
    {
        "required parameter missing": (b"RoleArn=arn", "ValidationError"),
        "unknown parameter": (b"Colour=blue", "Member is unknown"),
        "wrong type": (b"DurationSeconds=long", "must be a integer"),
        "error within a list": (b"PolicyArns.member.1.arn=x", "PolicyArns.1.member.arn"),
        "unknown version": (b"Version=2000-01-01", "InvalidAction"),
    },
)
def test_invalid_parameters_are_refused(body: bytes, message: str, aws: Emulator) -> None:
    version = b"" if body.startswith(b"Version") else b"&Version=2011-06-15"
    status, text = post(aws, b"Action=AssumeRoleWithWebIdentity&" + body + version, {})

    assert (status, message in text) == (400, True)
