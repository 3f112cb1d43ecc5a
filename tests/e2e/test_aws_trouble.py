"""AWS away, slow, throttling, refusing or talking nonsense: what is valid stays, and it goes on by itself."""

from datetime import datetime
from typing import Any

import pytest

from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import Operator
from tests.support.emulator.client import Emulator
from tests.support.processes import until

LICENSE_MANAGER, STS = "GetAccessToken", "AssumeRoleWithWebIdentity"
TRUST = "does the role exist, and does its trust policy name this issuer"


@pytest.mark.parametrize(
    ("fault", "reason", "says"),
    [
        pytest.param(
            {"operation": LICENSE_MANAGER, "drop": "before"}, "Unreachable", "did not answer", id="no answer"
        ),
        pytest.param({"operation": STS, "drop": "after"}, "Unreachable", "did not answer", id="lost answer"),
        pytest.param({"operation": LICENSE_MANAGER, "status": 500}, "Unavailable", "License Manager", id="500"),
        pytest.param({"operation": LICENSE_MANAGER, "status": 429}, "Throttled", "License Manager", id="429"),
        pytest.param(
            {"operation": LICENSE_MANAGER, "code": "RateLimitExceededException"},
            "Throttled",
            "License Manager GetAccessToken: RateLimitExceededException",
            id="License Manager throttles",
        ),
        pytest.param(
            {"operation": STS, "code": "AccessDenied", "status": 403},
            "AccessDenied",
            TRUST,
            id="STS denies",
        ),
        pytest.param(
            {"operation": LICENSE_MANAGER, "body": "html"},
            "Unavailable",
            "answered without AccessToken",
            id="a page, not JSON",
        ),
        pytest.param({"operation": STS, "body": "html"}, "Unavailable", "no usable answer", id="a page, not XML"),
        pytest.param(
            {"operation": STS, "expired": True}, "Unavailable", "has expired already", id="expired already"
        ),
        pytest.param(
            {"operation": STS, "code": "Unheard", "status": 418}, "SourceInvalid", "Unheard", id="unknown 4xx"
        ),
    ],
)
def test_valid_secret_stays_while_aws_fails(
    operator: Operator, aws: Emulator, namespace: Namespace, fault: dict[str, Any], reason: str, says: str
) -> None:
    namespace.issued(aws)
    before = namespace.read("secret", "acme")
    aws.fault(**fault, times=None)

    namespace.ask("acme", "1")

    namespace.turns("acme", "Renewed", reason)
    # Message and times from one reading: the next try may come between two.
    status = namespace.status("acme")
    message = next(c["message"] for c in status["conditions"] if c["type"] == "Renewed")
    assert says in message
    assert message.endswith(
        f"; next try at {status['nextAttemptTime']}; see docs/operations/troubleshooting.md#{reason.lower()}"
    )
    assert datetime.fromisoformat(status["nextAttemptTime"]) > datetime.fromisoformat(status["lastAttemptTime"])
    assert status["failedAttempts"] >= 1
    assert namespace.condition("acme", "Ready")[:2] == ("True", "Issued"), operator.log()
    assert namespace.read("secret", "acme") == before
    aws.clear_faults()
    if reason == "SourceInvalid":
        namespace.ask("acme", "2")  # a person acts
    until(lambda: namespace.status("acme")["revision"] == 2, seconds=90)  # the backoff may be at 32 s by now
    assert namespace.condition("acme", "Renewed")[:2] == ("True", "Renewed")
    assert "nextAttemptTime" not in namespace.status("acme")
    assert len(namespace.events("acme")) == 2


def test_ready_ends_with_the_expiry_and_comes_back_by_itself(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    aws.settings(session_seconds=6)
    namespace.issued(aws)
    expires = datetime.fromisoformat(namespace.status("acme")["expirationTime"]).timestamp()
    aws.fault(LICENSE_MANAGER, times=None, drop="before")

    namespace.turns("acme", "Renewed", "Unreachable")
    message = namespace.turns("acme", "Ready", "Expired")

    assert namespace.condition("acme", "Ready")[0] == "False"
    assert "has expired at" in message
    told = namespace.status("acme")["conditions"][0]["lastTransitionTime"]
    assert 0 <= datetime.fromisoformat(told).timestamp() - expires <= 2
    failed = until(
        lambda: namespace.status("acme")["failedAttempts"] >= 3 and namespace.status("acme")["failedAttempts"]
    )
    assert aws.calls(LICENSE_MANAGER) <= 1 + 3 * (failed + 1)  # each try is up to three calls
    assert sorted(namespace.events("acme")) == ["Expired", "Issued", "RenewalFailed"]
    aws.settings(session_seconds=3600)
    aws.clear_faults()
    namespace.is_ready("acme")
    assert sorted(namespace.events("acme")) == ["Expired", "Issued", "RenewalFailed"]


def test_never_issued_it_goes_on_by_itself(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    aws.fault(LICENSE_MANAGER, times=None, drop="before")
    namespace.token(aws.refresh_token())
    namespace.apply(token_request())

    namespace.turns("acme", "Ready", "Unreachable")
    assert not namespace.read("secret", "acme")
    aws.clear_faults()

    namespace.is_ready("acme")
    assert namespace.events("acme") == ["RenewalFailed", "Issued"]


def test_other_spec_is_tried_at_once(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    role = {
        "assumeRoleWithWebIdentity": {"roleArn": "arn:aws:iam::111122223333:role/Unknown", "durationSeconds": 900}
    }
    namespace.token(aws.refresh_token())
    namespace.apply(token_request(exchanges=[{"licenseManagerGetAccessToken": {}}, role]))
    assert TRUST in namespace.turns("acme", "Stalled", "AccessDenied")

    namespace.apply(token_request())

    namespace.is_ready("acme", timeout=5)


def test_changed_spec_that_fails_is_not_ready(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issued(aws)
    before = namespace.read("secret", "acme")

    namespace.patch(
        "treq", "acme", {"spec": {"exchanges": [{"licenseManagerGetAccessToken": {"tokenProperties": ["x"]}}]}}
    )

    namespace.turns("acme", "Stalled", "SourceInvalid")
    assert namespace.condition("acme", "Ready")[:2] == ("False", "SourceInvalid")
    assert namespace.read("secret", "acme") == before


def test_clock_of_aws_far_from_ours_is_told(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issued(aws)
    aws.settings(clock_offset_seconds=-7200)

    namespace.ask("acme", "1")

    assert "is this clock right?" in namespace.turns("acme", "Renewed", "Unavailable")
    offset = operator.metric('keyturn_clock_offset_seconds{service="license-manager"}')
    assert offset == pytest.approx(-7200, abs=5)


def test_write_that_the_api_server_refuses_costs_no_aws_call(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.token(aws.refresh_token())
    about = {"labels": {f"{'a' * 254}/name": "x"}}  # a prefix has at most 253 characters

    namespace.apply(token_request(target={"metadata": about}))

    assert "the API server refused to write Secret acme" in namespace.turns("acme", "Stalled", "WriteRefused")
    assert namespace.events("acme") == ["WriteRefused"]
    assert aws.calls(LICENSE_MANAGER) == 0
    namespace.patch("treq", "acme", {"spec": {"target": None}})
    namespace.is_ready("acme", timeout=5)
