"""The operator stops, by a kill or a signal, and restarts: only what is due is renewed."""

import time
from collections.abc import Iterator

import pytest

from tests.support.cluster.namespace import Namespace, count_exchanges, token_request
from tests.support.cluster.operator import Operator
from tests.support.cluster.writes import count_writes
from tests.support.emulator.client import Emulator
from tests.support.processes import until

LATER = "acme-later"


def wait_until_caught_up(namespace: Namespace) -> None:
    """Wait until the operator has processed all earlier changes: it processes a new request last."""
    namespace.apply(token_request(LATER))
    namespace.wait_until_ready(LATER)


def test_restart_renews_and_writes_nothing(own_operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    namespace.issue(aws, "retained", target={"deletionPolicy": "Retain"})
    names = ("acme", "retained")
    before = [namespace.get(kind, name) for kind in ("secret", "tokenrequest") for name in names]

    own_operator.kill()
    writes, calls = count_writes(namespace.plane), count_exchanges(aws)
    own_operator.start()
    labels = f'name="acme",namespace="{namespace.name}"'
    until(lambda: own_operator.metric(f"keyturn_credentials_expiration_timestamp_seconds{{{labels}}}"))
    until(lambda: own_operator.metric('keyturn_workqueue_requests{state="delayed"}') == 2)

    assert (count_writes(namespace.plane) - writes, count_exchanges(aws) - calls) == ({}, 0)
    wait_until_caught_up(namespace)
    assert [namespace.get(kind, name) for kind in ("secret", "tokenrequest") for name in names] == before
    assert count_exchanges(aws) - calls == 2


def test_kill_during_an_exchange_costs_one_more_exchange(
    own_operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    aws.fault("AssumeRoleWithWebIdentity", delay_seconds=5)
    namespace.put_token(aws.refresh_token())
    namespace.apply(token_request())
    until(lambda: aws.calls("AssumeRoleWithWebIdentity"))

    own_operator.kill()
    own_operator.start()

    namespace.wait_until_ready("acme")
    assert namespace.status("acme")["revision"] == 1
    assert count_exchanges(aws) == 4
    assert namespace.events("acme") == ["Issued"]


def test_changes_while_stopped_are_processed_at_the_start(
    own_operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issue(aws)
    namespace.issue(aws, "deleted")
    namespace.issue(aws, "edited")
    own_operator.kill()
    # By server-side apply with stringData, whose fields have no manager.
    namespace.put_secret("edited", {"AWS_REGION": "mars"})
    namespace.request_renewal("acme", "1")
    namespace.kubectl("delete", "secret", "deleted")
    namespace.apply(token_request("fresh"))

    own_operator.start()

    for name in ("acme", "deleted", "edited"):
        namespace.wait_for_revision(2, name)
    namespace.wait_until_ready("fresh")
    assert count_exchanges(aws) == 14


def test_next_attempt_survives_a_restart(own_operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.put_token("not.a.token")
    namespace.apply(token_request())
    namespace.wait_for_condition("acme", "Stalled", "SourceInvalid")
    before = namespace.get("tokenrequest", "acme")

    own_operator.kill()
    own_operator.start()
    namespace.put_token(aws.refresh_token(), name="other")
    source = {"token": {"secretKeyRef": {"name": "other", "key": "license_token"}}}
    namespace.apply(token_request(LATER, source=source))
    namespace.wait_until_ready(LATER)

    assert namespace.get("tokenrequest", "acme") == before
    assert aws.calls("GetAccessToken") == 2
    failed = f'keyturn_request_failed_attempts{{name="acme",namespace="{namespace.name}"}}'
    assert own_operator.metric(failed) == 1
    namespace.patch("treq", "acme", {"spec": {"source": source}})
    namespace.wait_until_ready("acme", timeout=5)
    assert namespace.status("acme")["failedAttempts"] == 0


@pytest.mark.parametrize("calls", ["no call", "a hanging call"])
def test_sigterm_exits_within_seconds_with_code_0(
    own_operator: Operator, aws: Emulator, namespace: Namespace, calls: str
) -> None:
    if calls == "no call":
        namespace.issue(aws)
    else:
        aws.fault("GetAccessToken", times=None, delay_seconds=20)
        namespace.put_token(aws.refresh_token())
        namespace.apply(token_request())
        until(lambda: aws.calls("GetAccessToken"))
    started = time.monotonic()

    assert own_operator.stop() == 0

    assert time.monotonic() - started < 5


def test_namespace_can_be_deleted_under_the_operator(
    own_operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issue(aws)

    namespace.plane.kubectl("delete", "namespace", namespace.name, "--timeout=60s")

    until(lambda: own_operator.metric('keyturn_workqueue_requests{state="delayed"}') == 0)
    assert count_exchanges(aws) == 2


@pytest.mark.usefixtures("own_operator")
def test_loss_of_the_secret_in_a_terminating_namespace_is_reported(aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    # Kubernetes deletes the pods of a namespace first, and this one cannot end.
    metadata = {"name": "slow", "finalizers": ["example.com/test"]}
    containers = [{"name": "app", "image": "example.com/app"}]
    namespace.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}})
    namespace.plane.kubectl("delete", "namespace", namespace.name, "--wait=false")
    try:
        until(lambda: "deletionTimestamp" in namespace.get("pod", "slow")["metadata"])
        namespace.kubectl("delete", "secret", "acme")

        until(lambda: namespace.condition("acme", "Ready")[:2] == ("False", "Deleting"))
        assert count_exchanges(aws) == 2
    finally:
        namespace.patch("pod", "slow", {"metadata": {"finalizers": None}})


@pytest.fixture
def terminating(own_operator: Operator, aws: Emulator, namespace: Namespace) -> Iterator[None]:
    """A TokenRequest that is being deleted and has a finalizer."""
    namespace.issue(aws)
    namespace.patch("treq", "acme", {"metadata": {"finalizers": ["example.com/test"]}})
    namespace.kubectl("delete", "treq", "acme", "--wait=false")
    yield
    namespace.patch("treq", "acme", {"metadata": {"finalizers": None}})


@pytest.mark.usefixtures("terminating")
def test_request_being_deleted_is_only_reported(own_operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.wait_for_condition("acme", "Ready", "Deleting")
    assert namespace.condition("acme", "Ready")[0] == "True"
    assert f'name="acme",namespace="{namespace.name}"' not in own_operator.get("/metrics")

    namespace.request_renewal("acme", "1")
    namespace.kubectl("delete", "secret", "acme")
    until(lambda: namespace.condition("acme", "Ready")[:2] == ("False", "Deleting"))
    wait_until_caught_up(namespace)

    assert not namespace.get("secret", "acme")
    assert namespace.events("acme") == ["Issued"]
    assert count_exchanges(aws) == 4


@pytest.mark.usefixtures("terminating")
def test_restart_writes_nothing_to_a_request_being_deleted(own_operator: Operator, namespace: Namespace) -> None:
    namespace.wait_for_condition("acme", "Ready", "Deleting")
    before = namespace.get("treq", "acme")

    own_operator.kill()
    own_operator.start()
    wait_until_caught_up(namespace)

    assert namespace.get("treq", "acme") == before


@pytest.mark.parametrize("is_restarted", [False, True], ids=["operator runs", "operator restarts"])
def test_expiry_of_a_request_being_deleted_is_reported(
    own_operator: Operator, aws: Emulator, request: pytest.FixtureRequest, namespace: Namespace, *, is_restarted: bool
) -> None:
    aws.settings(session_seconds=20)
    request.getfixturevalue("terminating")
    namespace.wait_for_condition("acme", "Ready", "Deleting")
    revision = namespace.revision()
    if is_restarted:
        own_operator.kill()
        own_operator.start()

    until(lambda: namespace.condition("acme", "Ready")[:2] == ("False", "Deleting"), seconds=60)

    assert "expired at" in namespace.condition("acme", "Ready")[2]
    assert namespace.revision() == revision
