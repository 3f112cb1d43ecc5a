import http.client

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.cases import cases
from tests.support.emulator.boto import USER, Boto, aws_error
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT

GET_CALLER_IDENTITY = b"Action=GetCallerIdentity&Version=2011-06-15"


@cases(
    "region, code", {"the signed region": ("eu-west-1", ""), "another region": ("us-east-1", "SignatureDoesNotMatch")}
)
def test_region_of_the_host_must_be_signed(region: str, code: str, aws: Emulator, boto: Boto) -> None:
    sts = boto("sts", region="eu-west-1", **USER)
    host = f"sts.{region}.amazonaws.com"
    sts.meta.events.register("before-sign", lambda request, **_: request.headers.add_header("Host", host))
    result = aws_error(sts.get_caller_identity)[0] if code else sts.get_caller_identity()["Account"]

    assert result == (code or ACCOUNT)


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
