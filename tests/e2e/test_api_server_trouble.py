"""The API server hangs, refuses, drops watches or loses its etcd: a valid Secret stays, and renewal continues."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.cases import cases
from tests.support.cluster.api_proxy import ApiProxy
from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import LOOPBACK, Operator, running_operator
from tests.support.cluster.rotating_source import issue_rotating
from tests.support.emulator.client import Emulator
from tests.support.processes import until

pytestmark = pytest.mark.usefixtures("operator")
STATUSES = (409, 429, 500, 503)
REFUSAL = json.dumps({"kind": "Status", "apiVersion": "v1", "message": "injected fault"})
GONE = json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "old"}})
EXCHANGES = ("GetAccessToken", "AssumeRoleWithWebIdentity")


@pytest.fixture
def operator(api_proxy: ApiProxy, aws: Emulator, namespace: Namespace, tmp_path: Path) -> Iterator[Operator]:
    """An operator behind the proxy, which must not exit during the test."""
    with running_operator(api_proxy, aws, tmp_path, namespace=namespace.name, settings=LOOPBACK) as operator:
        yield operator
        assert operator.process.poll() is None
        assert "internal error" not in operator.log()


def calls(aws: Emulator) -> tuple[int, ...]:
    """Count the calls of each exchange of the flagship TokenRequest."""
    return tuple(aws.calls(operation) for operation in EXCHANGES)


def seconds_until(time: str) -> float:
    return (datetime.fromisoformat(time) - datetime.now(UTC)).total_seconds()  # noqa: TID251 - the operator uses the real clock


@pytest.mark.parametrize("server", ["kube-apiserver", pytest.param("etcd", marks=pytest.mark.long)])
def test_renewal_due_while_the_server_is_frozen(aws: Emulator, namespace: Namespace, server: str) -> None:
    aws.settings(session_seconds=30)
    namespace.issue(aws, renewal={"renewBeforePercentage": 50})
    before, status = namespace.get("secret", "acme"), namespace.status("acme")
    aws.settings(session_seconds=3600)

    namespace.plane.freeze(server)
    try:
        until(lambda: seconds_until(status["renewalTime"]) < -1, seconds=20)
        assert calls(aws) == (1, 1)
    finally:
        namespace.plane.thaw(server)
    until(lambda: namespace.revision() == 2, seconds=8)

    assert seconds_until(status["expirationTime"]) > 0
    assert calls(aws) == (2, 2)
    assert namespace.condition("acme", "Ready")[:2] == ("True", "Renewed")
    assert {*namespace.get("secret", "acme")["data"]} == {*before["data"]}


@pytest.mark.long
def test_renewal_continues_after_an_etcd_outage(aws: Emulator, namespace: Namespace) -> None:
    aws.settings(session_seconds=240)
    namespace.issue(aws, renewal={"renewBeforePercentage": 50})
    status = namespace.status("acme")
    aws.settings(session_seconds=3600)

    namespace.plane.stop("etcd")
    try:
        until(lambda: seconds_until(status["renewalTime"]) < -15, seconds=150)
    finally:
        namespace.plane.restart("etcd")
    until(lambda: namespace.revision() == 2, seconds=30)

    assert seconds_until(status["expirationTime"]) > 0
    assert calls(aws) == (2, 2)
    namespace.request_renewal("acme", "1")
    until(lambda: namespace.revision() == 3, seconds=30)


def test_failed_secret_write_costs_one_exchange(aws: Emulator, namespace: Namespace, api_proxy: ApiProxy) -> None:
    namespace.issue(aws, "of-409")
    namespace.apply(*(token_request(f"of-{status}") for status in STATUSES))
    names = [f"of-{status}" for status in STATUSES]
    for name in names:
        namespace.wait_until_ready(name)
    before = [namespace.get("secret", name) for name in names]
    for status in STATUSES:
        api_proxy.add_fault(rf"PATCH .*/secrets/of-{status}\?", status, REFUSAL, retry_after="1")

    for name in names:
        namespace.request_renewal(name, "1")
    until(lambda: min(namespace.status(name)["failedAttempts"] for name in names) >= 2)
    assert [namespace.condition(name, "Renewed")[:2] for name in names] == [
        ("False", "WriteDenied" if name == "of-409" else "Unavailable") for name in names
    ]
    assert [namespace.get("secret", name) for name in names] == before
    api_proxy.clear_faults()

    # One exchange was made before the write was refused.
    until(lambda: all(namespace.revision(name) == 2 for name in names), seconds=40)
    assert calls(aws) == (12, 12)


def test_failed_status_write_costs_no_exchange(aws: Emulator, namespace: Namespace, api_proxy: ApiProxy) -> None:
    names = [f"of-{status}" for status in STATUSES]
    for status in STATUSES:
        api_proxy.add_fault(rf"PATCH .*/of-{status}/status", status, REFUSAL, retry_after="1")
    namespace.put_token(aws.refresh_token())
    namespace.apply(*(token_request(name) for name in names))
    until(lambda: all(api_proxy.count(f"{name}/status") for name in names))
    api_proxy.clear_faults()

    for name in names:
        namespace.wait_until_ready(name)
        assert namespace.events(name) == ["Issued"]
        assert namespace.condition(name, "Renewed")[:2] == ("True", "Issued")
    assert calls(aws) == (4, 4)


@pytest.mark.parametrize("status", [409, 503, *(pytest.param(status, marks=pytest.mark.long) for status in (429, 500))])
def test_save_of_a_rotated_token_is_retried(
    operator: Operator, aws: Emulator, namespace: Namespace, api_proxy: ApiProxy, status: int
) -> None:
    seed = issue_rotating(namespace, aws)
    aws.fault("oauth:token", delay_seconds=2)

    namespace.request_renewal("acme", "1")
    until(lambda: aws.calls("oauth:token") == 2)
    api_proxy.add_fault(r"PATCH .*/secrets/source-keyturn\?", status, REFUSAL, retry_after="1")
    until(lambda: operator.log().count("is not saved yet") >= 2)
    assert namespace.revision() == 1
    api_proxy.clear_faults()
    until(lambda: namespace.revision() == 2)
    namespace.request_renewal("acme", "2")
    until(lambda: namespace.revision() == 3)

    family = aws.family(seed)
    assert (family.consumed, family.reuses, family.revoked) == ([0, 1, 2], 0, False)


@cases("status, body", {"dropped and refused for some seconds": (503, ""), "with an expired version": (200, GONE)})
def test_changes_while_the_watch_is_broken_are_processed(
    operator: Operator, aws: Emulator, namespace: Namespace, api_proxy: ApiProxy, status: int, body: str
) -> None:
    namespace.issue(aws, "edited")
    namespace.issue(aws, "deleted-secret")
    namespace.issue(aws, "deleted")
    api_proxy.add_fault("watch=true", status, f"{body}\n")
    watches = api_proxy.count("watch=true")
    assert api_proxy.drop_watches() == 3

    namespace.patch("treq", "edited", {"spec": {"target": {"formats": [{"env": {}}]}}})
    namespace.kubectl("delete", "secret", "deleted-secret")
    namespace.kubectl("delete", "treq", "deleted")
    namespace.apply(token_request("created"))
    until(lambda: api_proxy.count("watch=true") >= watches + 3)  # the operator has tried to watch again
    api_proxy.clear_faults()

    until(lambda: namespace.revision("edited") == namespace.revision("deleted-secret") == 2)
    namespace.wait_until_ready("created")
    until(lambda: 'name="deleted"' not in operator.get("/metrics"))
    assert calls(aws) == (6, 6)


@pytest.mark.long
def test_changes_are_processed_while_a_watch_is_silent(
    aws: Emulator, namespace: Namespace, api_proxy: ApiProxy
) -> None:
    namespace.issue(aws, "edited")
    namespace.issue(aws, "deleted-secret")
    assert api_proxy.mute_watches() == 3

    namespace.patch("treq", "edited", {"spec": {"target": {"formats": [{"env": {}}]}}})
    namespace.kubectl("delete", "secret", "deleted-secret")

    until(lambda: namespace.revision("edited") == namespace.revision("deleted-secret") == 2, seconds=100, every=1)
    assert calls(aws) == (4, 4)
