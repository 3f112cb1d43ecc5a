import pytest

from keyturn.core.service_health import ServiceHealth


def told(*story: tuple[str, str, float]) -> list[str]:
    """What is told in a story of failures and successes, each at its second."""
    heard: list[str] = []
    service_health = ServiceHealth()
    service_health.on_recovery(heard.append)
    for system, what, now in story:
        if what == "failed":
            service_health.failed(system)
        else:
            service_health.worked(system, now)
    return heard


DOWN, UP = ("sts", "failed", 0.0), ("sts", "worked", 0.0)


@pytest.mark.parametrize(
    ("story", "heard"),
    [
        pytest.param([UP], [], id="what never failed is no news"),
        pytest.param([DOWN], [], id="a failure is not told"),
        pytest.param([DOWN, UP], ["sts"], id="the first success after a failure"),
        pytest.param([DOWN, DOWN, UP, UP], ["sts"], id="once, however often it failed"),
        pytest.param([DOWN, UP, ("sts", "worked", 60.0)], ["sts"], id="once, however long ago that was"),
        pytest.param([DOWN, ("other", "worked", 0.0)], [], id="the success of another"),
        pytest.param([DOWN, UP, DOWN, ("sts", "worked", 9.9)], ["sts"], id="within 10 s of the last: not yet"),
        pytest.param(
            [DOWN, UP, DOWN, ("sts", "worked", 9.9), ("sts", "worked", 10.0)],
            ["sts", "sts"],
            id="what was held back is told by the next success",
        ),
        pytest.param(
            [DOWN, ("sts", "worked", 5.0), ("other", "failed", 5.0), ("other", "worked", 6.0)],
            ["sts", "other"],
            id="each system has its own 10 s",
        ),
    ],
)
def test_the_end_of_an_outage_is_told(story: list[tuple[str, str, float]], heard: list[str]) -> None:
    assert told(*story) == heard


def test_without_a_listener_nothing_happens() -> None:
    service_health = ServiceHealth()
    service_health.failed("sts")

    service_health.worked("sts", 0.0)
