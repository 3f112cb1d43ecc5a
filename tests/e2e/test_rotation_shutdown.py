"""An operator that is stopped or suspended while it refreshes a rotating token does not lose the token."""

import functools
import signal
import subprocess

import pytest

from tests.support.cases import cases
from tests.support.cluster.api_proxy import ApiProxy
from tests.support.cluster.leadership import Start, is_leader, is_ready, lease_holder
from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import Operator
from tests.support.cluster.rotating_source import issue_rotating
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until

SAVE = r"PATCH .*/secrets/source-keyturn\?fieldManager=keyturn-token$"
RENEWAL = r"PATCH .*/leases/keyturn$"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
CONFLICT = '{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Conflict", "code": 409}'
LOST = "the Lease could not be renewed in time"


@pytest.fixture
def pair(start: Start, api_proxy: ApiProxy, installed: ControlPlane) -> tuple[Operator, Operator]:
    return start(api_proxy), start(installed)


def refresh(
    namespace: Namespace, aws: Emulator, api_proxy: ApiProxy, *, save: tuple[int, str] | None = None, **fault: str
) -> str:
    """Start the second refresh of a new token family, and return the initial token.

    The issuer's response is delayed. With `save`, saves get this status and body until the proxy's faults are cleared.
    """
    seed = issue_rotating(namespace, aws)
    aws.fault("oauth:token", delay_seconds=1 if save else 7, **fault)
    namespace.request_renewal("acme", "1")
    until(lambda: aws.calls("oauth:token") == 2)
    if save:
        api_proxy.add_fault(SAVE, *save)
        until(lambda: api_proxy.count(SAVE) >= 4)  # the first save and the second intent came before
    return seed


def has_reported(operator: Operator, times: int) -> bool:
    """Whether the log shows this many times what a kill would lose."""
    return operator.log().count("SIGKILL") >= times


def has_renewed(api_proxy: ApiProxy, times: int) -> bool:
    """Whether there were this many attempts to renew or release the Lease."""
    return api_proxy.count(RENEWAL) >= times


@cases("save", {"while the issuer is slow": None, "while the save fails": (503, "")})
def test_stopped_operator_saves_the_token_first(
    save: tuple[int, str] | None, start: Start, api_proxy: ApiProxy, aws: Emulator, namespace: Namespace
) -> None:
    operator = start(api_proxy)
    seed = refresh(namespace, aws, api_proxy, save=save)

    for count, number in enumerate(SIGNALS, 1):
        operator.process.send_signal(number)
        until(functools.partial(has_reported, operator, count))
    assert f"Secret {namespace.name}/source-keyturn" in operator.log()
    if save:
        # kopf cancels its tasks after five seconds; the save must survive that.
        with pytest.raises(subprocess.TimeoutExpired):
            operator.process.wait(timeout=6)
        # Without the Lease, another operator would send the token again.
        renewals = api_proxy.count(RENEWAL)
        until(lambda: api_proxy.count(RENEWAL) > renewals)
        api_proxy.clear_faults()

    assert operator.process.wait(timeout=20) == 0
    operator.start()
    namespace.wait_for_revision(2)
    family = aws.family(seed)
    assert (family.consumed, family.reuses, family.revoked) == ([0, 1, 2], 0, False)


@pytest.mark.parametrize("status", [200, 201, 404])
def test_page_of_a_proxy_does_not_end_the_save(
    status: int, start: Start, api_proxy: ApiProxy, aws: Emulator, namespace: Namespace
) -> None:
    start(api_proxy)
    seed = refresh(namespace, aws, api_proxy, save=(status, "<html><body>Welcome</body></html>"))
    # A save of a Secret that does not seem to exist creates it.
    api_proxy.add_fault(f"POST .*/{namespace.name}/secrets", status, "<html><body>Welcome</body></html>")
    saves = api_proxy.count(SAVE)
    until(lambda: api_proxy.count(SAVE) >= saves + 2)
    api_proxy.clear_faults()

    namespace.wait_for_revision(2)
    family = aws.family(seed)
    assert (family.consumed, family.reuses, family.revoked) == ([0, 1], 0, False)


@pytest.mark.long
def test_resumed_operator_saves_the_token_and_exits(
    pair: tuple[Operator, Operator], api_proxy: ApiProxy, aws: Emulator, namespace: Namespace
) -> None:
    first, second = pair
    seed = refresh(namespace, aws, api_proxy, save=(503, ""))

    first.freeze()
    until(lambda: is_leader(second), seconds=50)
    namespace.wait_for_condition("acme", "Renewed", "RefreshOutcomeUnknown")
    api_proxy.clear_faults()
    count = len(api_proxy.requests)
    first.thaw()

    assert first.process.wait(timeout=20) == 1
    assert LOST in first.log()
    assert {request for request in api_proxy.requests[count:] if not request.startswith("GET ")} == {
        f"PATCH /api/v1/namespaces/{namespace.name}/secrets/source-keyturn?fieldManager=keyturn-token"
    }
    namespace.wait_for_revision(2, seconds=50)
    family = aws.family(seed)
    assert (family.consumed, family.reuses, family.revoked) == ([0, 1, 2], 0, False)


@pytest.mark.long
@pytest.mark.parametrize("drop", ["before", "after"])
def test_suspended_operator_causes_one_final_attempt(
    pair: tuple[Operator, Operator], api_proxy: ApiProxy, aws: Emulator, namespace: Namespace, drop: str
) -> None:
    first, second = pair
    seed = refresh(namespace, aws, api_proxy, drop=drop)
    stored = namespace.secret_data("source-keyturn")

    first.freeze()
    until(lambda: is_leader(second), seconds=50)
    namespace.wait_for_condition("acme", "Renewed", "RefreshOutcomeUnknown")
    first.thaw()

    assert first.process.wait(timeout=20) == 1
    assert namespace.secret_data("source-keyturn") == stored
    if drop == "before":
        # The issuer never saw the token, which is still valid.
        namespace.wait_for_revision(2, seconds=50)
        end = (0, [0, 1], "")
    else:
        # The issuer saw the token twice and revoked its family.
        namespace.wait_for_condition("acme", "Stalled", "RefreshOutcomeUnknown", seconds=50)
        end = (1, [0, 1], "RefreshOutcomeUnknown")
    family = aws.family(seed)
    assert (family.reuses, family.consumed, namespace.condition("acme", "Stalled")[1]) == end
    assert aws.calls("oauth:token") == 3


@cases("fault", {"while it leads": "", "while it waits for the CRD": "GET /apis$"})
def test_second_signal_does_not_prevent_the_release(
    fault: str, start: Start, api_proxy: ApiProxy, installed: ControlPlane
) -> None:
    if fault:
        api_proxy.add_fault(fault, 503)
    operator = start(api_proxy)
    until(lambda: ("waiting for the API server" in operator.log()) if fault else is_ready(operator))
    api_proxy.add_fault(RENEWAL, 409, CONFLICT)
    for _ in range(2):
        operator.process.send_signal(signal.SIGTERM)
        # It retries the release.
        until(functools.partial(has_renewed, api_proxy, api_proxy.count(RENEWAL) + 3))
    api_proxy.clear_faults()

    assert operator.process.wait(timeout=20) == 0
    assert not lease_holder(installed)
