"""The operator ends, by a kill or by a signal, and comes back: nothing that is not due is done."""

import time
from collections.abc import Iterator

import pytest

from tests.support.cluster.namespace import Namespace, exchanges, token_request
from tests.support.cluster.operator import Operator
from tests.support.cluster.writes import writes
from tests.support.emulator.client import Emulator
from tests.support.processes import until

LATER = "acme-later"


def has_caught_up(namespace: Namespace) -> None:
    """Wait until the operator has seen all that was there before: what comes last is seen last."""
    namespace.apply(token_request(LATER))
    namespace.is_ready(LATER)


def test_kill_and_restart_do_nothing_that_is_not_due(
    own_operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issued(aws)
    namespace.issued(aws, "retained", target={"deletionPolicy": "Retain"})
    names = ("acme", "retained")
    before = [namespace.read(kind, name) for kind in ("secret", "tokenrequest") for name in names]

    own_operator.kill()
    wrote, spent = writes(namespace.plane), exchanges(aws)
    own_operator.start()
    place = f'name="acme",namespace="{namespace.name}"'
    until(lambda: own_operator.metric(f"keyturn_credentials_expiration_timestamp_seconds{{{place}}}"))
    until(lambda: own_operator.metric('keyturn_agenda_requests{state="waiting"}') == 2)

    assert (writes(namespace.plane) - wrote, exchanges(aws) - spent) == ({}, 0)
    has_caught_up(namespace)
    assert [namespace.read(kind, name) for kind in ("secret", "tokenrequest") for name in names] == before
    assert exchanges(aws) - spent == 2


def test_kill_amid_an_exchange_costs_one_more_and_nothing_else(
    own_operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    aws.fault("AssumeRoleWithWebIdentity", delay_seconds=5)
    namespace.token(aws.refresh_token())
    namespace.apply(token_request())
    until(lambda: aws.calls("AssumeRoleWithWebIdentity"))

    own_operator.kill()
    own_operator.start()

    namespace.is_ready("acme")
    assert namespace.status("acme")["revision"] == 1
    assert exchanges(aws) == 4
    assert namespace.events("acme") == ["Issued"]


def test_what_was_due_meanwhile_is_done_at_the_start(
    own_operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issued(aws)
    namespace.issued(aws, "gone")
    own_operator.kill()
    namespace.ask("acme", "1")
    namespace.kubectl("delete", "secret", "gone")
    namespace.apply(token_request("fresh"))

    own_operator.start()

    until(lambda: namespace.status("acme")["revision"] == namespace.status("gone")["revision"] == 2)
    namespace.is_ready("fresh")
    assert exchanges(aws) == 10


def test_next_try_survives_a_restart(own_operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.token("not.a.token")
    namespace.apply(token_request())
    namespace.turns("acme", "Stalled", "SourceInvalid")
    before = namespace.read("tokenrequest", "acme")

    own_operator.kill()
    own_operator.start()
    namespace.token(aws.refresh_token(), name="other")
    source = {"token": {"secretKeyRef": {"name": "other", "key": "license_token"}}}
    namespace.apply(token_request(LATER, source=source))
    namespace.is_ready(LATER)

    assert namespace.read("tokenrequest", "acme") == before
    assert aws.calls("GetAccessToken") == 2
    failed = f'keyturn_request_failed_attempts{{name="acme",namespace="{namespace.name}"}}'
    assert own_operator.metric(failed) == 1
    namespace.patch("treq", "acme", {"spec": {"source": source}})
    namespace.is_ready("acme", timeout=5)
    assert namespace.status("acme")["failedAttempts"] == 0


def test_sigterm_ends_it_within_seconds_with_code_0(
    own_operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issued(aws)
    started = time.monotonic()

    assert own_operator.stop() == 0

    assert time.monotonic() - started < 5
    assert "a bug" not in own_operator.log()


def test_sigterm_does_not_wait_for_a_call_that_hangs(
    own_operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    aws.fault("GetAccessToken", times=None, delay_seconds=20)
    namespace.token(aws.refresh_token())
    namespace.apply(token_request())
    until(lambda: aws.calls("GetAccessToken"))
    started = time.monotonic()

    assert own_operator.stop() == 0

    assert time.monotonic() - started < 5
    aws.clear_faults()


def test_namespace_goes_while_the_operator_is_down(
    own_operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issued(aws)
    own_operator.kill()

    namespace.plane.kubectl("delete", "namespace", namespace.name, "--timeout=60s")

    assert namespace.plane.kubectl("get", "namespace", namespace.name, "--ignore-not-found") == ""


def test_namespace_goes_under_a_running_operator(
    own_operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issued(aws)

    namespace.plane.kubectl("delete", "namespace", namespace.name, "--timeout=60s")

    until(lambda: own_operator.metric('keyturn_agenda_requests{state="waiting"}') == 0)
    assert exchanges(aws) == 2
    assert "a bug" not in own_operator.log()


@pytest.fixture
def held(own_operator: Operator, aws: Emulator, namespace: Namespace) -> Iterator[None]:
    """A TokenRequest that is being deleted, held by somebody's finalizer."""
    namespace.issued(aws)
    namespace.patch("treq", "acme", {"metadata": {"finalizers": ["example.com/held"]}})
    namespace.kubectl("delete", "treq", "acme", "--wait=false")
    yield
    namespace.patch("treq", "acme", {"metadata": {"finalizers": None}})


@pytest.mark.usefixtures("held")
def test_deleted_while_a_finalizer_holds_it_leaves_silently(
    own_operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    place = f'name="acme",namespace="{namespace.name}"'
    until(lambda: place not in own_operator.get("/metrics"))
    status = namespace.status("acme")

    namespace.kubectl("delete", "secret", "acme")
    namespace.ask("acme", "1")
    has_caught_up(namespace)

    assert namespace.status("acme") == status
    assert not namespace.read("secret", "acme")
    assert namespace.events("acme") == ["Issued"]
    assert exchanges(aws) == 4


def test_restart_of_the_api_server_is_lived_through(
    own_operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issued(aws)
    status = namespace.status("acme")

    namespace.plane.restart("kube-apiserver")
    has_caught_up(namespace)

    assert namespace.status("acme") == status
    assert exchanges(aws) == 4
    namespace.kubectl("delete", "secret", "acme")
    until(lambda: namespace.status("acme")["revision"] == 2, seconds=30)
    assert own_operator.process.poll() is None
