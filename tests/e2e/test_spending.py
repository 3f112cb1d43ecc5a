"""Whoever spends a rotating token is told to end, or freezes and wakes when another operator leads."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.test_leadership import is_ready, leads, lease
from tests.e2e.test_rotation import rotating_request, sign_in
from tests.support.cluster.interposer import Interposer
from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import LOOPBACK, Cluster, Operator, running_operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until

SAVE = r"PATCH .*/secrets/source-keyturn\?fieldManager=keyturn-token$"
LOST = "the Lease could not be renewed in time"
Start = Callable[[Cluster], Operator]


@pytest.fixture
def start(installed: ControlPlane, aws: Emulator, tmp_path: Path) -> Iterator[Start]:
    """Start operators with the chart's one Lease, that may speak to issuers on loopback."""
    with ExitStack() as stack:

        def starting(cluster: Cluster) -> Operator:
            directory = tmp_path / str(len(list(tmp_path.iterdir())))
            directory.mkdir()
            operator = stack.enter_context(running_operator(cluster, aws, directory, settings=LOOPBACK))
            stack.callback(operator.thaw)  # before it is told to end
            return operator

        yield starting
        lease(installed, holderIdentity=None)


@pytest.fixture
def pair(start: Start, between: Interposer, installed: ControlPlane) -> tuple[Operator, Operator]:
    """The operator that leads, and one that stands by."""
    first = start(between)
    until(lambda: leads(first))
    second = start(installed)
    until(lambda: is_ready(second))
    return first, second


def spend(namespace: Namespace, aws: Emulator, between: Interposer, *, saves: bool, **fault: str) -> str:
    """Start to spend the second token of a new family; without `saves` its save fails until that is cleared."""
    seed = sign_in(namespace, aws)
    namespace.apply(rotating_request(aws))
    namespace.is_ready("acme")
    aws.fault("oauth:token", delay_seconds=7 if saves else 1, **fault)
    namespace.ask("acme", "1")
    until(lambda: aws.calls("oauth:token") == 2)
    if not saves:
        between.fault(SAVE, 503)
        until(lambda: between.count(SAVE) >= 4)  # the first save and the second intent went before
    return seed


@pytest.mark.parametrize("saves", [True, False], ids=["while the issuer thinks", "while the save fails"])
def test_told_to_end_it_saves_first(
    start: Start, between: Interposer, aws: Emulator, namespace: Namespace, *, saves: bool
) -> None:
    operator = start(between)
    seed = spend(namespace, aws, between, saves=saves)

    operator.process.terminate()
    time.sleep(6)  # kopf gives tasks that it takes for its own five seconds
    assert operator.process.poll() is None
    between.clear()

    assert operator.process.wait(timeout=20) == 0
    operator.start()
    until(lambda: namespace.status("acme")["revision"] == 2)
    family = aws.family(seed)
    assert (family.consumed, family.reuses, family.revoked) == ([0, 1, 2], 0, False)


@pytest.mark.long
def test_who_wakes_with_an_answer_saves_it_and_ends(
    pair: tuple[Operator, Operator], between: Interposer, aws: Emulator, namespace: Namespace
) -> None:
    first, second = pair
    seed = spend(namespace, aws, between, saves=False)

    first.freeze()
    until(lambda: leads(second), seconds=50)
    namespace.turns("acme", "Renewed", "RefreshInDoubt")
    between.clear()
    seen = len(between.seen)
    first.thaw()

    assert first.process.wait(timeout=20) == 1
    assert LOST in first.log()
    assert {one for one in between.seen[seen:] if not one.startswith("GET ")} == {
        f"PATCH /api/v1/namespaces/{namespace.name}/secrets/source-keyturn?fieldManager=keyturn-token"
    }
    until(lambda: namespace.status("acme")["revision"] == 2, seconds=50)
    family = aws.family(seed)
    assert (family.consumed, family.reuses, family.revoked) == ([0, 1, 2], 0, False)


@pytest.mark.long
@pytest.mark.parametrize("drop", ["before", "after"])
def test_who_freezes_before_the_answer_leaves_a_doubt(
    pair: tuple[Operator, Operator], between: Interposer, aws: Emulator, namespace: Namespace, drop: str
) -> None:
    first, second = pair
    seed = spend(namespace, aws, between, saves=True, drop=drop)
    kept = namespace.data("source-keyturn")

    first.freeze()
    until(lambda: leads(second), seconds=50)
    namespace.turns("acme", "Renewed", "RefreshInDoubt")
    first.thaw()

    assert first.process.wait(timeout=20) == 1
    assert namespace.data("source-keyturn") == kept
    until(lambda: aws.calls("oauth:token") == 3, seconds=50)
    time.sleep(5)  # the one careful try was the last
    assert aws.calls("oauth:token") == 3
    # What the issuer never saw is as good as before; what it saw and was sent again ends the family.
    ends = (0, [0, 1], "") if drop == "before" else (1, [0, 1], "RefreshInDoubt")
    family = aws.family(seed)
    assert (family.reuses, family.consumed, namespace.condition("acme", "Stalled")[1]) == ends
