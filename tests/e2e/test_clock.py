"""The operator's clock is set, forward and back: no storm of renewals, nothing stands still, Ready is honest."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import Operator, running_operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until

HOUR = 3600
WAKES = 35  # the agenda sleeps for half a minute at most
SetClock = Callable[[float], None]


@pytest.fixture
def set_clock(tmp_path: Path) -> SetClock:
    """Set the operator's clock: so many seconds ahead of the real one."""

    def setting(ahead: float) -> None:
        (tmp_path / "next").write_text(str(ahead))
        (tmp_path / "next").rename(tmp_path / "ahead")

    setting(0)
    return setting


@pytest.fixture
def operator(
    installed: ControlPlane, aws: Emulator, namespace: Namespace, tmp_path: Path, set_clock: SetClock
) -> Iterator[Operator]:
    """An operator with a clock that can be set."""
    program = ("-m", "tests.support.cluster.clocked", str(tmp_path / "ahead"))
    with running_operator(installed, aws, tmp_path, namespace=namespace.name, program=program) as operator:
        yield operator
        assert "a bug" not in operator.log()


def revision(namespace: Namespace, name: str = "acme") -> int:
    found: int = namespace.status(name)["revision"]
    return found


def test_forward_and_back(operator: Operator, aws: Emulator, namespace: Namespace, set_clock: SetClock) -> None:
    namespace.issued(aws)
    before = namespace.read("secret", "acme")

    set_clock(2 * HOUR)
    until(lambda: namespace.condition("acme", "Ready")[1] == "Expired", seconds=WAKES)
    assert "is this clock right?" in namespace.condition("acme", "Renewed")[2]
    assert namespace.read("secret", "acme") == before
    time.sleep(5)
    assert aws.calls("GetAccessToken") <= 1 + 6

    set_clock(0)
    until(lambda: namespace.condition("acme", "Ready")[0] == "True", seconds=WAKES)
    namespace.ask("acme", "1")
    until(lambda: namespace.condition("acme", "Renewed")[:2] == ("True", "Renewed"), seconds=10)
    renews = datetime.fromisoformat(namespace.status("acme")["renewalTime"])
    assert timedelta(minutes=30) < renews - datetime.now(UTC) < timedelta(hours=1)  # noqa: TID251 - the real clock


def test_back(operator: Operator, aws: Emulator, namespace: Namespace, set_clock: SetClock) -> None:
    namespace.issued(aws)
    before = namespace.read("secret", "acme")

    set_clock(-HOUR)
    namespace.apply(token_request("other"))
    namespace.is_ready("other")
    assert namespace.read("secret", "acme") == before
    assert namespace.condition("acme", "Ready")[:2] == ("True", "Issued")
    namespace.patch("treq", "acme", {"spec": {"target": {"formats": [{"env": {}}]}}})

    until(lambda: revision(namespace) == 2, seconds=10)
    set_clock(0)
    namespace.ask("acme", "1")
    until(lambda: revision(namespace) == 3, seconds=10)
    assert aws.calls("GetAccessToken") == 4
