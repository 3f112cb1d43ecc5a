import importlib
import pkgutil

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ParamValidationError,
    ReadTimeoutError,
)

import keyturn.exchanges
from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, UnavailableError
from keyturn.exchanges.aws_errors import EXPIRED, KEYS, AwsOperation, ErrorClassification, failure, member

OPERATION = AwsOperation(
    exchange="example",
    service="sts",
    name="example",
    title="Example",
    classifications={
        "Known": ErrorClassification("SourceInvalid", hint="look here"),
        "Settles": ErrorClassification("AccessDenied", eventually_consistent=True),
    },
)


def client_error(code: object, status: int = 400) -> ClientError:
    about = {"HTTPStatusCode": status, "RequestId": "id-1"}
    response = {"Error": {"Code": code, "Message": "planted"}, "ResponseMetadata": about}
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
        pytest.param(302, "Unavailable", UnavailableError, id="a redirect, which is not AWS's"),
        pytest.param(408, "Unavailable", UnavailableError, id="408: it took too long to ask"),
        pytest.param(425, "Unavailable", UnavailableError, id="425: too early"),
    ],
)
def test_an_unknown_code_goes_by_its_http_class(status: int, reason: str, kind: type[KeyturnError]) -> None:
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
def test_every_way_to_say_slower_is_throttled_whatever_the_status(code: str) -> None:
    assert isinstance(failure(OPERATION, client_error(code, 400), "us-east-1", ""), ThrottledError)


@pytest.mark.parametrize("code", ["RequestExpired", "RequestTimeTooSkewed"])
def test_a_clock_that_is_wrong_is_unavailable(code: str) -> None:
    error = failure(OPERATION, client_error(code, 403), "us-east-1", "; the clock of AWS differs from ours by 90 s")

    assert type(error) is UnavailableError
    assert error.message == f"Example: {code}; the clock of AWS differs from ours by 90 s"


def test_a_known_code_has_its_hint() -> None:
    assert failure(OPERATION, client_error("Known"), "us-east-1", "").message == "Example: Known; look here"


def test_a_refusal_that_settles() -> None:
    error = failure(OPERATION, client_error("Settles", 403), "us-east-1", "")

    assert isinstance(error, RefusedError)
    assert error.eventually_consistent


@pytest.mark.parametrize(
    "code",
    [pytest.param("planted token", id="a sentence"), "", "x" * 65, pytest.param("a\nb", id="two lines")],
)
def test_a_code_that_is_none_is_not_repeated(code: object) -> None:
    error = failure(OPERATION, client_error(code), "us-east-1", "")

    assert error.message == "Example: an error without a code"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(EndpointConnectionError(endpoint_url="https://planted"), "Unreachable", id="refused"),
        pytest.param(ConnectTimeoutError(endpoint_url="planted"), "Unreachable", id="too slow to connect"),
        pytest.param(ReadTimeoutError(endpoint_url="https://planted"), "Unreachable", id="no answer in time"),
        pytest.param(OSError("planted"), "Unreachable", id="the system refuses"),
        pytest.param(BotoCoreError(), "Unavailable", id="anything else of botocore"),
        pytest.param(ParamValidationError(report="planted"), "SourceInvalid", id="it cannot be sent"),
    ],
)
def test_without_an_answer(error: Exception, reason: str) -> None:
    classed = failure(OPERATION, error, "us-east-1", "")

    assert (classed.reason, "planted" in classed.message) == (reason, False)
    assert ("in us-east-1" in classed.message) is (reason == "Unreachable")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(client_error("Known"), "Known", id="of our table"),
        pytest.param(client_error("Newly"), "other", id="of no table"),
        pytest.param(OSError(), "other", id="none"),
    ],
)
def test_the_label_in_metrics(error: Exception, code: str) -> None:
    assert OPERATION.code(error) == code


def test_a_member_that_must_be_there() -> None:
    assert member(OPERATION, {"A": "x"}, "A") == "x"


@pytest.mark.parametrize("members", [{}, {"A": ""}, {"A": None}])
def test_a_member_that_is_missing(members: dict[str, object]) -> None:
    with pytest.raises(UnavailableError, match="Example answered without A"):
        member(OPERATION, members, "A")


@pytest.mark.parametrize(
    ("codes", "classification"),
    [
        pytest.param(
            {"InvalidClientTokenId", "SignatureDoesNotMatch", "InvalidSignatureException",
             "UnrecognizedClientException"},
            KEYS,
            id="keys",
        ),
        pytest.param({"ExpiredToken"}, EXPIRED, id="a session"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_signature_has_one_wording(codes: set[str], classification: ErrorClassification) -> None:
    names = [info.name for info in pkgutil.walk_packages(keyturn.exchanges.__path__, "keyturn.exchanges.")]
    values = [value for name in names for value in vars(importlib.import_module(name)).values()]
    operations = [value for value in values if isinstance(value, AwsOperation)]
    told = [found for one in operations for code, found in one.classifications.items() if code in codes]

    assert {found.hint for found in told} == {classification.hint}
    assert "source" not in classification.hint
