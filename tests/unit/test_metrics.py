from dataclasses import replace

import pytest
from prometheus_client import generate_latest

from keyturn import __version__
from keyturn.metrics import Metrics, Series
from tests.support.dependencies import HOUR, NOW

LABELS = {"namespace": "billing", "name": "acme"}
REQUEST = Series(
    namespace="billing",
    name="acme",
    issued=NOW,
    renews=NOW + HOUR / 2,
    expires=NOW + HOUR,
    source_expires=None,
    conditions=(("Ready", "True", "Renewed"), ("Renewed", "False", "Throttled")),
    failed_attempts=3,
    suspended=True,
    source_warns=NOW - HOUR / 60,
)


def exported(*series: Series) -> tuple[Metrics, list[Series]]:
    """Metrics that export a list, and the list, for a test to change."""
    metrics, exported_series = Metrics(), list(series)
    metrics.export(lambda: exported_series, lambda: {"delayed": 2, "ready": 1, "in_progress": 0})
    return metrics, exported_series


def test_memory_and_cpu_of_the_process_are_exported() -> None:
    names = {family.name for family in Metrics().registry.collect()}

    assert {"process_resident_memory_bytes", "process_cpu_seconds"} <= names


def test_leader_series_starts_with_its_first_value() -> None:
    metrics, _ = exported(REQUEST)
    before = metrics.registry.get_sample_value("keyturn_leader")
    metrics.leader.set(0)

    assert (before, metrics.registry.get_sample_value("keyturn_leader")) == (None, 0)


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("keyturn_credentials_issued_timestamp_seconds", {}, NOW.timestamp()),
        ("keyturn_credentials_renewal_timestamp_seconds", {}, NOW.timestamp() + 1800),
        ("keyturn_credentials_expiration_timestamp_seconds", {}, NOW.timestamp() + 3600),
        ("keyturn_source_expiration_timestamp_seconds", {}, None),
        ("keyturn_source_expiration_warning_timestamp_seconds", {}, NOW.timestamp() - 60),
        ("keyturn_request_condition", {"condition": "Ready", "status": "True", "reason": "Renewed"}, 1),
        ("keyturn_request_condition", {"condition": "Renewed", "status": "False", "reason": "Throttled"}, 1),
        ("keyturn_request_condition", {"condition": "Stalled", "status": "True", "reason": "Throttled"}, None),
        ("keyturn_request_failed_attempts", {}, 3),
        ("keyturn_request_suspended", {}, 1),
    ],
)
def test_request_has_a_series(name: str, labels: dict[str, str], value: float | None) -> None:
    metrics, _ = exported(REQUEST)

    assert metrics.registry.get_sample_value(name, LABELS | labels) == value


def test_deleted_request_leaves_no_series() -> None:
    metrics, exported_series = exported(REQUEST, replace(REQUEST, name="other"))
    before = generate_latest(metrics.registry)
    exported_series.pop(0)
    after = generate_latest(metrics.registry)

    assert (b'name="acme"' in before, b'name="acme"' in after, b'name="other"' in after) == (True, False, True)


def test_work_queue_is_exported_by_state() -> None:
    metrics, _ = exported()

    assert metrics.registry.get_sample_value("keyturn_workqueue_requests", {"state": "ready"}) == 1


def test_build_info_has_the_version() -> None:
    assert Metrics().registry.get_sample_value("keyturn_build_info", {"version": __version__}) == 1


def test_counters_have_no_created_series() -> None:
    metrics = Metrics()
    metrics.renewals.labels("success", "Due").inc()

    assert b"_created" not in generate_latest(metrics.registry)
