"""AWS is unreachable, throttles, refuses or responds with nonsense: a valid Secret stays, and renewal continues."""

from datetime import datetime
from typing import Any

import pytest

from tests.support.cases import cases
from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import Operator
from tests.support.emulator.client import Emulator
from tests.support.processes import until

pytestmark = pytest.mark.usefixtures("operator")
LICENSE_MANAGER, STS = "GetAccessToken", "AssumeRoleWithWebIdentity"
TRUST = "check that the role exists and that its trust policy allows this issuer"


# The fault, and the reason and a part of the message that are reported.
FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no response": ({"operation": LICENSE_MANAGER, "drop": "before"}, "Unreachable", "did not respond"),
    "STS denies": ({"operation": STS, "code": "AccessDenied", "status": 403}, "AccessDenied", TRUST),
    "throttled": ({"operation": STS, "code": "Throttling"}, "Throttled", "STS"),
}


@cases("fault, reason, text", FAULTS)
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
    # Keyturn's own limit on calls to a service that throttles may delay the attempt.
    assert message.endswith((f"; next attempt at {status['nextAttemptTime']}", "; the next attempt is due"))
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


def test_ready_is_false_after_expiry_until_renewal_succeeds(aws: Emulator, namespace: Namespace) -> None:
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


def test_changed_spec_is_tried_at_once(aws: Emulator, namespace: Namespace) -> None:
    role = {"assumeRoleWithWebIdentity": {"roleArn": "arn:aws:iam::111122223333:role/Unknown", "durationSeconds": 900}}
    namespace.put_token(aws.refresh_token())
    namespace.apply(token_request(exchanges=[{"licenseManagerGetAccessToken": {}}, role]))
    assert TRUST in namespace.wait_for_condition("acme", "Stalled", "AccessDenied")

    namespace.apply(token_request())

    namespace.wait_until_ready("acme", timeout=5)
