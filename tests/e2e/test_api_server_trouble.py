"""The API server frozen, refusing, deaf or without its etcd: what is valid stays, and it goes on by itself."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.e2e.test_rotation import rotating_request, sign_in
from tests.support.cluster.interposer import Interposer
from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import LOOPBACK, Operator, running_operator
from tests.support.emulator.client import Emulator
from tests.support.processes import until

STATUSES = (409, 429, 500, 503)
REFUSAL = json.dumps({"kind": "Status", "message": "told to fail"})
GONE = json.dumps({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"})
EXCHANGES = ("GetAccessToken", "AssumeRoleWithWebIdentity")


@pytest.fixture
def operator(between: Interposer, aws: Emulator, namespace: Namespace, tmp_path: Path) -> Iterator[Operator]:
    """An operator that sees the API server through what is between; it must live to the end."""
    with running_operator(between, aws, tmp_path, namespace=namespace.name, settings=LOOPBACK) as operator:
        yield operator
        assert operator.process.poll() is None
        assert "a bug" not in operator.log()


def calls(aws: Emulator) -> tuple[int, ...]:
    """How often each exchange of the flagship was asked for."""
    return tuple(aws.calls(one) for one in EXCHANGES)


def revision(namespace: Namespace, name: str = "acme") -> int:
    found: int = namespace.status(name).get("revision", 0)
    return found


def seconds_to(moment: str) -> float:
    """How long it is until a moment of a status."""
    return (datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds()  # noqa: TID251 - a real clock's test


@pytest.mark.parametrize("server", ["kube-apiserver", pytest.param("etcd", marks=pytest.mark.long)])
def test_frozen_while_a_renewal_is_due(
    operator: Operator, aws: Emulator, namespace: Namespace, server: str
) -> None:
    aws.settings(session_seconds=44)
    namespace.issued(aws, renewal={"renewBeforePercentage": 50})
    before, status = namespace.read("secret", "acme"), namespace.status("acme")
    aws.settings(session_seconds=3600)

    namespace.plane.freeze(server)
    try:
        time.sleep(25)
        assert seconds_to(status["renewalTime"]) < 0
        assert calls(aws) == (1, 1)
    finally:
        namespace.plane.thaw(server)
    until(lambda: revision(namespace) == 2, seconds=8)

    assert seconds_to(status["expirationTime"]) > 0
    assert calls(aws) == (2, 2)
    assert namespace.condition("acme", "Ready")[:2] == ("True", "Renewed")
    assert {*namespace.read("secret", "acme")["data"]} == {*before["data"]}


@pytest.mark.long
def test_etcd_gone_for_longer_than_a_minute(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    aws.settings(session_seconds=240)
    namespace.issued(aws, renewal={"renewBeforePercentage": 50})
    expires = namespace.status("acme")["expirationTime"]
    aws.settings(session_seconds=3600)

    namespace.plane.stop("etcd")
    try:
        time.sleep(135)  # past the time of the renewal, and past all tries of kopf
    finally:
        namespace.plane.restart("etcd")
    until(lambda: revision(namespace) == 2, seconds=30)

    assert seconds_to(expires) > 0
    assert calls(aws) == (2, 2)
    namespace.ask("acme", "1")
    until(lambda: revision(namespace) == 3, seconds=30)


def test_refused_secret_write_costs_one_exchange(
    operator: Operator, aws: Emulator, namespace: Namespace, between: Interposer
) -> None:
    namespace.issued(aws, "of-409")
    namespace.apply(*(token_request(f"of-{status}") for status in STATUSES))
    names = [f"of-{status}" for status in STATUSES]
    for name in names:
        namespace.is_ready(name)
    before = [namespace.read("secret", name) for name in names]
    for status in STATUSES:
        between.fault(rf"PATCH .*/secrets/of-{status}\?", status, REFUSAL, retry_after="1")

    for name in names:
        namespace.ask(name, "1")
    until(lambda: min(namespace.status(name)["failedAttempts"] for name in names) >= 2)
    assert [namespace.condition(name, "Renewed")[:2] for name in names] == [
        ("False", "WriteRefused" if name == "of-409" else "Unavailable") for name in names
    ]
    assert [namespace.read("secret", name) for name in names] == before
    between.clear()

    # One exchange was made before it was known that its credentials cannot be kept.
    until(lambda: all(revision(namespace, name) == 2 for name in names), seconds=40)
    assert calls(aws) == (12, 12)


def test_refused_status_write_costs_nothing(
    operator: Operator, aws: Emulator, namespace: Namespace, between: Interposer
) -> None:
    names = [f"of-{status}" for status in STATUSES]
    for status in STATUSES:
        between.fault(rf"PATCH .*/of-{status}/status", status, REFUSAL, retry_after="1")
    namespace.token(aws.refresh_token())
    namespace.apply(*(token_request(name) for name in names))
    until(lambda: all(between.count(f"{name}/status") for name in names))
    time.sleep(3)
    between.clear()

    for name in names:
        namespace.is_ready(name)
        assert namespace.events(name) == ["Issued"]
        assert namespace.condition(name, "Renewed")[:2] == ("True", "Issued")
    assert calls(aws) == (4, 4)


@pytest.mark.parametrize(
    "status", [409, 503, *(pytest.param(status, marks=pytest.mark.long) for status in (429, 500))]
)
def test_rotated_token_is_saved_in_the_end(
    operator: Operator, aws: Emulator, namespace: Namespace, between: Interposer, status: int
) -> None:
    seed = sign_in(namespace, aws)
    namespace.apply(rotating_request(aws))
    namespace.is_ready("acme")
    aws.fault("oauth:token", delay_seconds=2)

    namespace.ask("acme", "1")
    until(lambda: aws.calls("oauth:token") == 2)
    between.fault(r"PATCH .*/secrets/source-keyturn\?", status, REFUSAL, retry_after="1")
    until(lambda: operator.log().count("is not saved yet") >= 2)
    assert revision(namespace) == 1
    between.clear()
    until(lambda: revision(namespace) == 2)
    namespace.ask("acme", "2")
    until(lambda: revision(namespace) == 3)

    family = aws.family(seed)
    assert (family.consumed, family.reuses, family.revoked) == ([0, 1, 2], 0, False)


def test_refused_target_costs_one_rotation(
    operator: Operator, aws: Emulator, namespace: Namespace, between: Interposer
) -> None:
    seed = sign_in(namespace, aws)
    namespace.apply(rotating_request(aws))
    namespace.is_ready("acme")
    between.fault(r"PATCH .*/secrets/acme\?", 503)

    namespace.ask("acme", "1")
    until(lambda: namespace.status("acme")["failedAttempts"] >= 2)
    between.clear()
    until(lambda: revision(namespace) == 2, seconds=40)

    family = aws.family(seed)
    assert (family.consumed, family.reuses) == ([0, 1, 2], 0)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(503, "", id="cut, and for some seconds not to be had again"),
        pytest.param(200, json.dumps({"type": "ERROR", "object": json.loads(GONE)}), id="its version is gone"),
    ],
)
def test_changes_while_the_watch_is_cut_are_seen_after_it(
    operator: Operator, aws: Emulator, namespace: Namespace, between: Interposer, status: int, body: str
) -> None:
    namespace.issued(aws, "edited")
    namespace.issued(aws, "healed")
    namespace.issued(aws, "deleted")
    between.fault("watch=true", status, f"{body}\n")
    assert between.cut() == 3

    namespace.patch("treq", "edited", {"spec": {"target": {"formats": [{"env": {}}]}}})
    namespace.kubectl("delete", "secret", "healed")
    namespace.kubectl("delete", "treq", "deleted")
    namespace.apply(token_request("made"))
    time.sleep(3)
    between.clear()

    until(lambda: revision(namespace, "edited") == revision(namespace, "healed") == 2)
    namespace.is_ready("made")
    until(lambda: 'name="deleted"' not in operator.get("/metrics"))
    assert calls(aws) == (6, 6)


@pytest.mark.long
def test_changes_are_seen_though_the_watch_went_dumb(
    operator: Operator, aws: Emulator, namespace: Namespace, between: Interposer
) -> None:
    namespace.issued(aws, "edited")
    namespace.issued(aws, "healed")
    assert between.hush() == 3

    namespace.patch("treq", "edited", {"spec": {"target": {"formats": [{"env": {}}]}}})
    namespace.kubectl("delete", "secret", "healed")

    until(lambda: revision(namespace, "edited") == revision(namespace, "healed") == 2, seconds=100, every=1)
    assert calls(aws) == (4, 4)
