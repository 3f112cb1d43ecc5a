"""The main use: a License Manager token becomes credentials in a Secret that is renewed before they expire."""

import re
from datetime import datetime
from typing import Any

import pytest

from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import Operator
from tests.support.cluster.writes import count_writes
from tests.support.emulator.client import Emulator
from tests.support.processes import until

pytestmark = pytest.mark.usefixtures("operator")
SESSION = "arn:aws:sts::111122223333:assumed-role/LicenseConsumer"
LICENSE_MANAGER: dict[str, Any] = {"licenseManagerGetAccessToken": {}}
TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"


def test_status_describes_the_issue(aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws, secret="acme-aws")

    status = namespace.status("acme")
    issued, renews, expires = (
        datetime.fromisoformat(status[f"{name}Time"]) for name in ("issue", "renewal", "expiration")
    )
    assert 3595 <= (expires - issued).total_seconds() <= 3605  # AWS counts from its response
    assert 0.5 < (renews - issued) / (expires - issued) <= 2 / 3
    assert (status["secretName"], status["revision"], status["failedAttempts"]) == ("acme-aws", 1, 0)
    assert status["observedGeneration"] == 1
    assert status["principal"] == f"{SESSION}/{namespace.name}.acme"
    assert [(it["type"], it["status"], it["reason"]) for it in status["conditions"]] == [
        ("Ready", "True", "Issued"),
        ("Renewed", "True", "Issued"),
    ]


def test_secret_has_the_default_formats_and_its_owner(aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)

    data, secret = namespace.secret_data("acme"), namespace.get("secret", "acme")
    assert set(data) == {
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
        "credentials.json", "expiration",
    }  # fmt: skip
    assert data["expiration"] == namespace.status("acme")["expirationTime"]
    assert secret["metadata"]["annotations"]["keyturn.dev/expires-at"] == data["expiration"]
    assert secret["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "keyturn"
    assert [it["name"] for it in secret["metadata"]["ownerReferences"]] == ["acme"]
    assert "finalizers" not in namespace.get("tokenrequest", "acme")["metadata"]


def test_kubectl_get_shows_the_next_times(aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)

    header, row = namespace.kubectl("get", "treq").splitlines()
    assert header.split() == ["NAME", "READY", "REASON", "RENEWED", "SECRET", "EXPIRES", "RENEWS", "AGE"]
    assert re.fullmatch(rf"acme +True +Issued +Issued +acme +{TIME} +{TIME} +[0-9]+s", row)
    header, row = namespace.kubectl("get", "treq", "-o", "wide").splitlines()
    assert header.split()[7:] == ["NEXT", "ATTEMPT", "FAILURES", "PRINCIPAL", "REVISION", "AGE"]
    assert re.search(rf" 0 +\S+/{namespace.name}\.acme +1 +[0-9]+s$", row)


def test_metrics_have_a_series_until_the_request_is_deleted(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issue(aws)
    labels = f'name="acme",namespace="{namespace.name}"'

    status = namespace.status("acme")
    for name, key in (("issued", "issueTime"), ("renewal", "renewalTime"), ("expiration", "expirationTime")):
        value = operator.metric(f"keyturn_credentials_{name}_timestamp_seconds{{{labels}}}")
        assert value == datetime.fromisoformat(status[key]).timestamp()
    assert operator.metric("keyturn_leader") == 1
    namespace.kubectl("delete", "treq", "acme")
    until(lambda: labels not in operator.get("/metrics"))


def test_renewal_writes_once_and_records_no_event(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    aws.settings(session_seconds=6)
    namespace.issue(aws)
    renewals = 'keyturn_renewals_total{reason="Due",result="success"}'
    before, due = count_writes(namespace.plane), operator.metric(renewals) or 0
    first, since = namespace.secret_data("acme"), namespace.status("acme")["conditions"][0]["lastTransitionTime"]

    until(lambda: operator.metric(renewals) == due + 2)
    namespace.wait_for_revision(3)

    assert count_writes(namespace.plane) - before == {"APPLY secrets": 2, "PATCH tokenrequests/status": 2}
    assert (aws.calls("GetAccessToken"), aws.calls("AssumeRoleWithWebIdentity")) == (3, 3)
    assert namespace.events("acme") == ["Issued"]
    assert namespace.condition("acme", "Renewed")[:2] == ("True", "Renewed")
    assert namespace.status("acme")["conditions"][0]["lastTransitionTime"] == since
    assert namespace.secret_data("acme")["AWS_ACCESS_KEY_ID"] != first["AWS_ACCESS_KEY_ID"]
