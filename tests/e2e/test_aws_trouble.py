"""AWS is unreachable, throttles, refuses or responds with nonsense: a valid Secret stays, and renewal continues."""

from datetime import datetime
from typing import Any

import pytest

from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import Operator
from tests.support.emulator.client import Emulator
from tests.support.processes import until

LICENSE_MANAGER, STS = "GetAccessToken", "AssumeRoleWithWebIdentity"
TRUST = "check that the role exists and that its trust policy allows this issuer"


@pytest.mark.parametrize(
    ("fault", "reason", "text"),
    [
        pytest.param(
            {"operation": LICENSE_MANAGER, "drop": "before"}, "Unreachable", "did not respond", id="no response"
        ),
        pytest.param({"operation": STS, "drop": "after"}, "Unreachable", "did not respond", id="lost response"),
        pytest.param({"operation": LICENSE_MANAGER, "status": 500}, "Unavailable", "License Manager", id="500"),
        pytest.param(
            {"operation": STS, "code": "AccessDenied", "status": 403},
            "AccessDenied",
            TRUST,
            id="STS denies",
        ),
        pytest.param(
            {"operation": LICENSE_MANAGER, "body": "html"},
            "Unavailable",
            "returned no AccessToken",
            id="a page, not JSON",
        ),
        pytest.param({"operation": STS, "code": "Throttling"}, "Throttled", "STS", id="throttled"),
        pytest.param({"operation": STS, "expired": True}, "Unavailable", "have already expired", id="already expired"),
    ],
)
def test_valid_secret_stays_while_aws_fails(
    operator: Operator, aws: Emulator, namespace: Namespace, fault: dict[str, Any], reason: str, text: str
) -> None:
    namespace.issue(aws)
    before = namespace.get("secret", "acme")
    aws.fault(**fault, times=None)

    namespace.request_renewal("acme", "1")

    namespace.wait_for_condition("acme", "Renewed", reason)
    # Read message and times at once: the next attempt may change them.
    status = namespace.status("acme")
    message = next(c["message"] for c in status["conditions"] if c["type"] == "Renewed")
    assert text in message
    assert message.endswith(f"; next attempt at {status['nextAttemptTime']}")
    assert datetime.fromisoformat(status["nextAttemptTime"]) > datetime.fromisoformat(status["lastAttemptTime"])
    assert status["failedAttempts"] >= 1
    assert namespace.condition("acme", "Ready")[:2] == ("True", "Issued"), operator.log()
    assert namespace.get("secret", "acme") == before
    aws.clear_faults()
    if fault.get("drop") != "before":  # it continues without help; the test need not wait for the others
        namespace.request_renewal("acme", "2")
    namespace.wait_for_revision(2, seconds=90)
    assert namespace.condition("acme", "Renewed")[:2] == ("True", "Renewed")
    assert "nextAttemptTime" not in namespace.status("acme")
    until(lambda: len(namespace.events("acme")) == 3)
    assert "Recovered" in namespace.events("acme")


def test_ready_is_false_after_expiry_until_renewal_succeeds(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    aws.settings(session_seconds=6)
    namespace.issue(aws)
    expires = datetime.fromisoformat(namespace.status("acme")["expirationTime"]).timestamp()
    aws.fault(LICENSE_MANAGER, times=None, drop="before")

    namespace.wait_for_condition("acme", "Renewed", "Unreachable")
    message = namespace.wait_for_condition("acme", "Ready", "Expired")

    assert namespace.condition("acme", "Ready")[0] == "False"
    assert "expired at" in message
    changed = namespace.status("acme")["conditions"][0]["lastTransitionTime"]
    assert 0 <= datetime.fromisoformat(changed).timestamp() - expires <= 2
    failed = until(
        lambda: namespace.status("acme")["failedAttempts"] >= 3 and namespace.status("acme")["failedAttempts"]
    )
    assert aws.calls(LICENSE_MANAGER) <= 1 + 3 * (failed + 1)  # an attempt makes up to three calls
    assert sorted(namespace.events("acme")) == ["Expired", "Issued", "RenewalFailed"]
    aws.settings(session_seconds=3600)
    aws.clear_faults()
    namespace.wait_until_ready("acme")
    until(lambda: sorted(namespace.events("acme")) == ["Expired", "Issued", "Recovered", "RenewalFailed"])


def test_first_issue_is_retried(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    aws.fault(LICENSE_MANAGER, times=None, drop="before")
    namespace.put_token(aws.refresh_token())
    namespace.apply(token_request())

    namespace.wait_for_condition("acme", "Ready", "Unreachable")
    assert not namespace.get("secret", "acme")
    aws.clear_faults()

    namespace.wait_until_ready("acme")
    assert namespace.events("acme") == ["RenewalFailed", "Issued"]


def test_changed_spec_is_tried_at_once(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    role = {"assumeRoleWithWebIdentity": {"roleArn": "arn:aws:iam::111122223333:role/Unknown", "durationSeconds": 900}}
    namespace.put_token(aws.refresh_token())
    namespace.apply(token_request(exchanges=[{"licenseManagerGetAccessToken": {}}, role]))
    assert TRUST in namespace.wait_for_condition("acme", "Stalled", "AccessDenied")

    namespace.apply(token_request())

    namespace.wait_until_ready("acme", timeout=5)


def test_changed_spec_that_fails_is_not_ready(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    before = namespace.get("secret", "acme")

    namespace.patch(
        "treq", "acme", {"spec": {"exchanges": [{"licenseManagerGetAccessToken": {"tokenProperties": ["x"]}}]}}
    )

    namespace.wait_for_condition("acme", "Stalled", "SourceInvalid")
    assert namespace.condition("acme", "Ready")[:2] == ("False", "SourceInvalid")
    assert namespace.get("secret", "acme") == before


def test_clock_skew_is_reported(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    aws.settings(clock_offset_seconds=-7200)

    namespace.request_renewal("acme", "1")

    assert "check the node's clock" in namespace.wait_for_condition("acme", "Renewed", "Unavailable")
    offset = operator.metric('keyturn_clock_skew_seconds{service="license-manager"}')
    assert offset == pytest.approx(-7200, abs=5)


def test_write_refused_by_the_api_server_costs_no_aws_call(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.put_token(aws.refresh_token())
    metadata = {"labels": {f"{'a' * 254}/name": "x"}}  # a prefix has at most 253 characters

    namespace.apply(token_request(target={"metadata": metadata}))

    assert "the API server refused to write Secret acme" in namespace.wait_for_condition(
        "acme", "Stalled", "WriteDenied"
    )
    assert namespace.events("acme") == ["WriteDenied"]
    assert aws.calls(LICENSE_MANAGER) == 0
    namespace.patch("treq", "acme", {"spec": {"target": None}})
    namespace.wait_until_ready("acme", timeout=5)
