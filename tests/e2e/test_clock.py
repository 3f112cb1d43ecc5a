"""The operator's clock is set forward and back: no burst of renewals, no stall, and Ready stays correct."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import LOOPBACK, Operator, running_operator
from tests.support.cluster.rotating_source import issue_rotating
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until

HOUR = 3600
WAKE_SECONDS = 35  # the work queue sleeps at most half a minute
SetClock = Callable[[float], None]


@pytest.fixture
def set_clock(tmp_path: Path) -> SetClock:
    """Set by how many seconds the operator's clock is ahead of the real one."""

    def set_offset(ahead: float) -> None:
        (tmp_path / "next").write_text(str(ahead))
        (tmp_path / "next").rename(tmp_path / "ahead")

    set_offset(0)
    return set_offset


@pytest.fixture
def operator(
    installed: ControlPlane, aws: Emulator, namespace: Namespace, tmp_path: Path, set_clock: SetClock
) -> Iterator[Operator]:
    program = ("-m", "tests.support.cluster.settable_clock", str(tmp_path / "ahead"))
    name = namespace.name
    with running_operator(installed, aws, tmp_path, namespace=name, settings=LOOPBACK, program=program) as operator:
        yield operator
        assert "internal error" not in operator.log()


def test_clock_set_forward_and_back(
    operator: Operator, aws: Emulator, namespace: Namespace, set_clock: SetClock
) -> None:
    namespace.issue(aws)
    before = namespace.get("secret", "acme")

    set_clock(2 * HOUR)
    until(lambda: namespace.condition("acme", "Ready")[1] == "Expired", seconds=WAKE_SECONDS)
    until(lambda: namespace.condition("acme", "Renewed")[1] == "ClockSkew")
    assert "; the node's clock is 2h ahead of AWS: synchronize it" in namespace.condition("acme", "Renewed")[2]
    assert namespace.get("secret", "acme") == before
    failed = until(lambda: namespace.status("acme").get("failedAttempts", 0))
    assert aws.calls("GetAccessToken") <= 2 + failed

    set_clock(0)
    until(lambda: namespace.condition("acme", "Renewed")[0] == "True", seconds=WAKE_SECONDS)
    assert namespace.condition("acme", "Ready")[0] == "True"
    namespace.request_renewal("acme", "1")
    until(lambda: namespace.condition("acme", "Renewed")[:2] == ("True", "Renewed"), seconds=10)
    renews = datetime.fromisoformat(namespace.status("acme")["renewalTime"])
    assert timedelta(minutes=30) < renews - datetime.now(UTC) < timedelta(hours=1)  # noqa: TID251 - the real clock


def test_clock_set_back(operator: Operator, aws: Emulator, namespace: Namespace, set_clock: SetClock) -> None:
    namespace.issue(aws)
    before = namespace.get("secret", "acme")

    set_clock(-HOUR)
    namespace.apply(token_request("other"))
    namespace.wait_until_ready("other")
    assert namespace.get("secret", "acme") == before
    assert namespace.condition("acme", "Ready")[:2] == ("True", "Issued")
    namespace.patch("treq", "acme", {"spec": {"target": {"formats": [{"env": {}}]}}})

    namespace.wait_for_revision(2)
    set_clock(0)
    # By the clock that was behind, both expire now: AWS's expiry was converted to it.
    namespace.wait_for_revision(3, seconds=WAKE_SECONDS)
    namespace.wait_for_revision(2, "other", seconds=WAKE_SECONDS)
    assert aws.calls("GetAccessToken") == 5


@pytest.mark.usefixtures("operator")
def test_token_issued_while_the_clock_was_ahead(aws: Emulator, namespace: Namespace, set_clock: SetClock) -> None:
    def is_true(time: str) -> bool:
        remaining = datetime.fromisoformat(namespace.status("acme")[time]) - datetime.now(UTC)  # noqa: TID251 - the real clock
        return timedelta() < remaining < timedelta(hours=2)

    set_clock(10 * HOUR)
    issue_rotating(namespace, aws)
    assert not is_true("expirationTime")

    set_clock(0)
    until(lambda: is_true("expirationTime"), seconds=WAKE_SECONDS)
    assert is_true("renewalTime")
    assert namespace.revision() == 1
