from datetime import timedelta

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ParamValidationError,
    ReadTimeoutError,
)

from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, TransientRefusalError, UnavailableError
from keyturn.exchanges.aws_errors import AwsOperation, ErrorClassification, WrongRegionError, failure, member
from keyturn.exchanges.sts import _WITH_WEB_IDENTITY
from tests.support.dependencies import HOUR, MINUTE, SECOND

OPERATION = AwsOperation(
    exchange="example",
    service="sts",
    name="example",
    title="Example",
    classifications={
        "Known": ErrorClassification("SourceInvalid", hint="check the spec"),
        "Expired": ErrorClassification("SourceExpired"),
    },
)
EXPIRED = "Signature expired: 20261129T100000Z is now earlier than 20261129T101500Z"
EARLY = "Signature not yet current: 20261129T102000Z is still later than 20261129T101500Z"


def client_error(code: object, status: int = 400, text: str = "planted", request_id: object = "id-1") -> ClientError:
    metadata = {"HTTPStatusCode": status, "RequestId": request_id}
    response = {"Error": {"Code": code, "Message": text}, "ResponseMetadata": metadata}
    return ClientError(response, "Example")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        pytest.param(400, "SourceInvalid", RefusedError, id="400"),
        pytest.param(404, "SourceInvalid", RefusedError, id="404"),
        pytest.param(401, "AccessDenied", RefusedError, id="401"),
        pytest.param(403, "AccessDenied", RefusedError, id="403"),
        pytest.param(429, "Throttled", ThrottledError, id="429"),
        pytest.param(500, "Unavailable", UnavailableError, id="500"),
        pytest.param(503, "Unavailable", UnavailableError, id="503"),
        pytest.param(0, "Unavailable", UnavailableError, id="no status"),
        pytest.param(302, "Unavailable", UnavailableError, id="a redirect, which AWS does not send"),
        pytest.param(408, "Unavailable", UnavailableError, id="408: request timeout"),
        pytest.param(425, "Unavailable", UnavailableError, id="425: too early"),
    ],
)
def test_unknown_code_is_classified_by_http_status(status: int, reason: str, kind: type[KeyturnError]) -> None:
    error = failure(OPERATION, client_error("Newly", status), "us-east-1")

    assert (error.reason, error.message, error.request_id, type(error)) == (reason, "Example: Newly", "id-1", kind)


@pytest.mark.parametrize(
    "code",
    [
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "SlowDown",
        "TooManyRequestsException",
    ],
)
def test_throttling_codes_are_throttled_with_any_status(code: str) -> None:
    assert isinstance(failure(OPERATION, client_error(code, 400), "us-east-1"), ThrottledError)


@pytest.mark.parametrize(
    ("code", "text", "skew", "advice"),
    [
        pytest.param("RequestExpired", "", 1200 * SECOND, "clock is 20m behind AWS: sync", id="the code alone, behind"),
        pytest.param("RequestTimeTooSkewed", "", -7210 * SECOND, "clock is 2h ahead of AWS: sync", id="ahead"),
        pytest.param("RequestInTheFuture", "", timedelta(), "AWS's clock differs from", id="no Date header"),
        pytest.param("SignatureDoesNotMatch", EXPIRED, timedelta(), "AWS's clock differs from", id="a text"),
        pytest.param("InvalidSignatureException", EARLY, -600 * SECOND, "10m ahead of", id="not yet current"),
        pytest.param("AuthFailure", "", 250 * SECOND, "4m behind", id="a signature of four minutes ago"),
        pytest.param("Expired", "", 60 * SECOND, "1m behind", id="expired by AWS's clock only"),
    ],
)
def test_refusal_because_of_the_time_is_clock_skew(code: str, text: str, skew: timedelta, advice: str) -> None:
    error = failure(OPERATION, client_error(code, 403, text), "us-east-1", skew)

    assert (type(error), error.reason) == (UnavailableError, "ClockSkew")
    assert error.message.startswith(f"Example: {code}; ")
    assert advice in error.message


@pytest.mark.parametrize(
    ("code", "skew", "reason"),
    [
        pytest.param("SignatureDoesNotMatch", 200 * SECOND, "AccessDenied", id="a signature of three minutes ago"),
        pytest.param("Expired", 50 * SECOND, "SourceExpired", id="a small difference"),
        pytest.param("Expired", -HOUR, "SourceExpired", id="the node's clock is ahead: it has really expired"),
        pytest.param("Known", HOUR, "SourceInvalid", id="not about the time"),
    ],
)
def test_other_refusal_with_a_wrong_clock_keeps_its_reason(code: str, skew: timedelta, reason: str) -> None:
    error = failure(OPERATION, client_error(code, 403), "us-east-1", skew)

    assert error.reason == reason
    assert ("synchronize" in error.message) is (abs(skew) >= MINUTE)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        pytest.param("Incorrect token audience", "the token's audience is not one of", id="wrong audience"),
        pytest.param(
            "No OpenIDConnect provider found in your account for planted", "no OIDC provider for the", id="none"
        ),
        pytest.param("Couldn't retrieve verification key from your planted", "issuer's keys: check", id="no keys"),
        pytest.param("Another planted text", "check that the role's account has an OIDC provider", id="another text"),
    ],
)
def test_hint_for_an_identity_token_follows_the_text_of_aws(text: str, hint: str) -> None:
    refusal = client_error("InvalidIdentityToken", 400, text)
    refusal.operation_name = "AssumeRoleWithWebIdentity"
    error = failure(_WITH_WEB_IDENTITY, refusal, "us-east-1")

    assert isinstance(error, TransientRefusalError)
    assert (error.reason, hint in error.message, "planted" in error.message) == ("SourceInvalid", True, False)


@pytest.mark.parametrize(
    ("location", "region"),
    [
        ("https://license-manager.us-gov-west-1.amazonaws.com/", "us-gov-west-1"),
        ("https://license-manager-fips.us-east-1.amazonaws.com", "us-east-1"),
        ("https://license-manager.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
        ("https://license-manager.us-isob-west-1.sc2s.sgov.gov/", "us-isob-west-1"),
        ("https://license-manager.amazonaws.com/", ""),
    ],
)
def test_region_of_any_partition_is_read_from_a_redirect(location: str, region: str) -> None:
    redirect = client_error("RedirectException")
    redirect.response["Location"] = location  # type: ignore[typeddict-unknown-key]
    error = failure(OPERATION, redirect, "us-east-2")

    assert isinstance(error, WrongRegionError)
    assert error.region == region


def test_known_code_has_its_hint() -> None:
    assert failure(OPERATION, client_error("Known"), "us-east-1").message == "Example: Known; check the spec"


@pytest.mark.parametrize(
    "code",
    [
        *(pytest.param("planted token", id="a sentence"), "", "x" * 65, pytest.param("a\nb", id="two lines")),
        pytest.param("je7MtGbClwBF2Zp9Utkh3yCo8nvbEXAMPLEKEY00", id="a secret access key"),
    ],
)
def test_malformed_code_is_not_shown(code: object) -> None:
    error = failure(OPERATION, client_error(code), "us-east-1")

    assert error.message == "Example: error without a code"


@pytest.mark.parametrize("request_id", [pytest.param({"p": "1"}, id="XML"), "x" * 65, "a\u202eb", None])
def test_malformed_request_id_is_not_shown(request_id: object) -> None:
    assert not failure(OPERATION, client_error("Known", request_id=request_id), "us-east-1").request_id


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(EndpointConnectionError(endpoint_url="https://planted"), "Unreachable", id="refused"),
        pytest.param(ConnectTimeoutError(endpoint_url="planted"), "Unreachable", id="too slow to connect"),
        pytest.param(ReadTimeoutError(endpoint_url="https://planted"), "Unreachable", id="read timeout"),
        pytest.param(OSError("planted"), "Unreachable", id="an error of the operating system"),
        pytest.param(BotoCoreError(), "Unavailable", id="any other error of botocore"),
        pytest.param(ParamValidationError(report="planted"), "SourceInvalid", id="a parameter that cannot be sent"),
    ],
)
def test_error_without_a_response(error: Exception, reason: str) -> None:
    classified = failure(OPERATION, error, "us-east-1")

    assert (classified.reason, "planted" in classified.message) == (reason, False)
    assert ("in us-east-1" in classified.message) is (reason == "Unreachable")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(client_error("Known"), "Known", id="a code in the table"),
        pytest.param(client_error("Newly"), "other", id="a code that is not in the table"),
        pytest.param(OSError(), "other", id="no code"),
    ],
)
def test_metrics_label(error: Exception, code: str) -> None:
    assert OPERATION.code(error) == code


def test_required_member_is_returned() -> None:
    assert member(OPERATION, {"A": "x"}, "A") == "x"


@pytest.mark.parametrize("members", [{}, {"A": ""}, {"A": None}])
def test_missing_member_is_unavailable(members: dict[str, object]) -> None:
    with pytest.raises(UnavailableError, match="Example returned no A"):
        member(OPERATION, members, "A")
