import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ParamValidationError,
    ReadTimeoutError,
)

from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, UnavailableError
from keyturn.exchanges.aws_errors import AwsOperation, ErrorClassification, failure, member

OPERATION = AwsOperation(
    exchange="example",
    service="sts",
    name="example",
    title="Example",
    classifications={"Known": ErrorClassification("SourceInvalid", hint="check the spec")},
)


def client_error(code: object, status: int = 400) -> ClientError:
    metadata = {"HTTPStatusCode": status, "RequestId": "id-1"}
    response = {"Error": {"Code": code, "Message": "planted"}, "ResponseMetadata": metadata}
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
    error = failure(OPERATION, client_error("Newly", status), "us-east-1", "")

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
    assert isinstance(failure(OPERATION, client_error(code, 400), "us-east-1", ""), ThrottledError)


@pytest.mark.parametrize("code", ["RequestExpired", "RequestTimeTooSkewed"])
def test_clock_skew_error_is_unavailable(code: str) -> None:
    error = failure(OPERATION, client_error(code, 403), "us-east-1", "; check the node's clock")

    assert type(error) is UnavailableError
    assert error.message == f"Example: {code}; check the node's clock"


def test_known_code_has_its_hint() -> None:
    assert failure(OPERATION, client_error("Known"), "us-east-1", "").message == "Example: Known; check the spec"


@pytest.mark.parametrize(
    "code",
    [pytest.param("planted token", id="a sentence"), "", "x" * 65, pytest.param("a\nb", id="two lines")],
)
def test_malformed_code_is_not_shown(code: object) -> None:
    error = failure(OPERATION, client_error(code), "us-east-1", "")

    assert error.message == "Example: error without a code"


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
    classified = failure(OPERATION, error, "us-east-1", "")

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
