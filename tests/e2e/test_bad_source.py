"""A source that is missing, invalid or expires: the reason is reported, and renewal continues after a fix."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import Operator
from tests.support.emulator.client import Emulator

RECHECK_SECONDS = 75  # a failed source is checked again every minute
WRONG = "not.a.token"
LABELLED = {"keyturn.dev/source": "true"}


def source(name: str, key: str = "license_token") -> dict[str, Any]:
    return {"token": {"secretKeyRef": {"name": name, "key": key}}}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        pytest.param(source("nowhere"), "Secret nowhere does not exist", id="Secret"),
        pytest.param(source("license", "nothing"), "Secret license has no key nothing", id="key"),
        pytest.param(source("license", "empty"), "Secret license has no key empty, or an empty one", id="empty key"),
    ],
)
def test_missing_source_is_reported(
    operator: Operator, aws: Emulator, namespace: Namespace, wrong: dict[str, Any], message: str
) -> None:
    namespace.put_token(aws.refresh_token())
    namespace.patch("secret", "license", {"data": {"empty": ""}})

    namespace.apply(token_request(source=wrong))

    reported = namespace.wait_for_condition("acme", "Renewed", "SourceNotFound")
    assert message in reported
    assert "; next attempt at 2" in reported
    assert namespace.condition("acme", "Ready")[:2] == ("False", "SourceNotFound")
    assert message in namespace.kubectl("get", "events", "--field-selector=reason=SourceNotFound")
    assert namespace.events("acme") == ["SourceNotFound"]
    assert aws.calls("GetAccessToken") == 0


def test_labelled_source_is_watched(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.apply(token_request())
    namespace.wait_for_condition("acme", "Renewed", "SourceNotFound")

    namespace.put_token(aws.refresh_token(), labels=LABELLED)
    namespace.wait_until_ready("acme")
    namespace.put_token(aws.refresh_token(), labels=LABELLED)

    namespace.wait_for_revision(2)
    assert "because of SourceChanged" in namespace.condition("acme", "Renewed")[2]


def test_unchanged_labelled_source_causes_no_renewal(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.put_token(aws.refresh_token(), labels=LABELLED)
    namespace.apply(token_request())
    namespace.wait_until_ready("acme")

    namespace.kubectl("annotate", "secret", "license", "note=1")
    namespace.apply(token_request("later"))
    namespace.wait_until_ready("later")

    assert aws.calls("GetAccessToken") == 2


def test_fixed_sources_are_used_within_a_minute(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.put_token(aws.refresh_token())
    namespace.put_token(WRONG, name="wrong")
    foreign = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "foreign"}}
    namespace.apply(
        foreign,
        token_request("no-secret", source=source("later")),
        token_request("no-key", source=source("license", "later")),
        token_request("invalid", source=source("wrong")),
        token_request("conflict", secret="foreign"),
    )
    for name, reason in (
        ("no-secret", "SourceNotFound"),
        ("no-key", "SourceNotFound"),
        ("invalid", "SourceInvalid"),
        ("conflict", "TargetConflict"),
    ):
        namespace.wait_for_condition(name, "Renewed", reason)
        status = namespace.status(name)
        wait = datetime.fromisoformat(status["nextAttemptTime"]) - datetime.fromisoformat(status["lastAttemptTime"])
        assert wait >= timedelta(seconds=50)

    namespace.put_token(aws.refresh_token(), name="later")
    namespace.patch("secret", "license", {"stringData": {"later": aws.refresh_token()}})
    namespace.put_token(aws.refresh_token(), name="wrong")
    namespace.kubectl("annotate", "secret", "foreign", "keyturn.dev/adoptable-by=conflict")

    namespace.kubectl("wait", "--for=condition=Ready", "treq", "--all", f"--timeout={RECHECK_SECONDS}s")
    # Once each, once for the invalid token, and once more if the conflict was only detected by the write.
    assert aws.calls("GetAccessToken") in (5, 6)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("a\nb", id="two lines"),
        pytest.param('a"b\\c', id="quote and backslash"),
        pytest.param("x" * 500_000, id="huge"),
        pytest.param("e30." + "W1tb" * 50_000 + ".e30", id="JSON too deep"),
        pytest.param(WRONG, id="not a JWT"),
    ],
)
def test_invalid_token_is_refused(operator: Operator, aws: Emulator, namespace: Namespace, token: str) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "license"}}
    namespace.kubectl("create", "-f", "-", stdin=json.dumps(secret | {"stringData": {"license_token": token}}))

    namespace.apply(token_request())

    namespace.wait_for_condition("acme", "Stalled", "SourceInvalid")
    assert namespace.events("acme") == ["Stalled"]


def test_refused_token_keeps_the_valid_secret(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.put_token(aws.refresh_token(), labels=LABELLED)
    namespace.apply(token_request())
    namespace.wait_until_ready("acme")
    before = namespace.get("secret", "acme")

    namespace.put_token(aws.refresh_token(expires_in=-1).replace("e", "f", 1), labels=LABELLED)
    assert "License Manager GetAccessToken: ValidationException" in namespace.wait_for_condition(
        "acme", "Stalled", "SourceInvalid"
    )
    assert namespace.condition("acme", "Ready")[:2] == ("True", "Issued")
    assert namespace.get("secret", "acme") == before
    assert namespace.events("acme") == ["Issued", "Stalled"]
    namespace.put_token(aws.refresh_token(), labels=LABELLED)
    namespace.wait_for_revision(2)
    assert namespace.condition("acme", "Stalled") == ("", "", "")
    assert namespace.status("acme")["failedAttempts"] == 0


def test_expired_token_is_not_sent(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.put_token(aws.refresh_token(expires_in=-60))

    namespace.apply(token_request())

    assert "the source token expired at 2" in namespace.wait_for_condition("acme", "Stalled", "SourceExpired")
    assert aws.calls("GetAccessToken") == 0


def test_expiring_source_is_reported_once(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.put_token(aws.refresh_token(expires_in=10))

    namespace.apply(token_request())

    message = namespace.wait_for_condition("acme", "Ready", "SourceExpiring")
    assert f"the source credential expires at {namespace.status('acme')['sourceExpirationTime']}" in message
    assert namespace.events("acme") == ["Issued", "SourceExpiring"]
