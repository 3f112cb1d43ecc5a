import pytest

from keyturn.core.service_health import ServiceHealth


def reported_recoveries(*events: tuple[str, str, float]) -> list[str]:
    """Return the recoveries that are reported for failures and successes, each with its time in seconds."""
    recoveries: list[str] = []
    service_health = ServiceHealth()
    service_health.on_recovery(recoveries.append)
    for service, outcome, now in events:
        if outcome == "failed":
            service_health.failed(service)
        else:
            service_health.worked(service, now)
    return recoveries


DOWN, UP = ("sts", "failed", 0.0), ("sts", "worked", 0.0)


@pytest.mark.parametrize(
    ("events", "recoveries"),
    [
        pytest.param([UP], [], id="a success without a failure"),
        pytest.param([DOWN], [], id="a failure"),
        pytest.param([DOWN, UP], ["sts"], id="the first success after a failure"),
        pytest.param([DOWN, DOWN, UP, UP], ["sts"], id="several failures and successes: once"),
        pytest.param([DOWN, UP, ("sts", "worked", 60.0)], ["sts"], id="a later success: not again"),
        pytest.param([DOWN, ("other", "worked", 0.0)], [], id="a success of another service"),
        pytest.param([DOWN, UP, DOWN, ("sts", "worked", 9.9)], ["sts"], id="within 10 s of the last recovery: delayed"),
        pytest.param(
            [DOWN, UP, DOWN, ("sts", "worked", 9.9), ("sts", "worked", 10.0)],
            ["sts", "sts"],
            id="the next success reports a delayed recovery",
        ),
        pytest.param(
            [DOWN, ("sts", "worked", 5.0), ("other", "failed", 5.0), ("other", "worked", 6.0)],
            ["sts", "other"],
            id="each service has its own 10 s",
        ),
    ],
)
def test_recovery_is_reported(events: list[tuple[str, str, float]], recoveries: list[str]) -> None:
    assert reported_recoveries(*events) == recoveries


def test_recovery_without_a_listener_is_ignored() -> None:
    service_health = ServiceHealth()
    service_health.failed("sts")

    service_health.worked("sts", 0.0)


def test_services_with_free_names_are_forgotten() -> None:
    recoveries: list[str] = []
    service_health = ServiceHealth()
    service_health.on_recovery(recoveries.append)
    for number in range(20_000):
        service_health.failed(f"{number}.example")
        service_health.failed("sts/us-east-1")
    for name in ("0.example", "19999.example", "sts/us-east-1"):
        service_health.worked(name, 0.0)

    # A service that keeps failing is remembered, however many other names there are.
    assert recoveries == ["19999.example", "sts/us-east-1"]


def test_service_that_failed_again_is_remembered() -> None:
    service_health, recoveries = ServiceHealth(), list[str]()
    service_health.on_recovery(recoveries.append)
    names = ["sts/us-east-1", *(f"{number}.example" for number in range(4095))]
    for name in (*names, "sts/us-east-1", "4095.example"):
        service_health.failed(name)
    service_health.worked("sts/us-east-1", 0.0)

    assert recoveries == ["sts/us-east-1"]


def test_service_that_a_request_waits_for_is_remembered() -> None:
    recoveries: list[str] = []
    service_health = ServiceHealth()
    service_health.on_recovery(recoveries.append, {"sts/eu-west-1"}.__contains__)
    for name in ("sts/eu-west-1", *(f"{number}.example" for number in range(20_000))):
        service_health.failed(name)
    for name in ("sts/eu-west-1", "0.example"):
        service_health.worked(name, 0.0)

    assert recoveries == ["sts/eu-west-1"]


def test_services_that_requests_wait_for_are_rarely_searched() -> None:
    searched: list[str] = []

    def is_awaited(name: str) -> bool:
        searched.append(name)
        return True

    service_health = ServiceHealth()
    service_health.on_recovery(lambda _: None, is_awaited)
    for number in range(50_000):
        service_health.failed(f"{number}.example")

    assert len(searched) < 100_000
