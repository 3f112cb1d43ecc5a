import asyncio
import itertools
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

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


async def text_of(metrics: Metrics) -> str:
    exposition = await metrics.exposition()
    size, data = exposition.size, b"".join(exposition.parts())
    assert len(data) == size
    return data.decode()


async def samples_of(metrics: Metrics, name: str) -> list[tuple[dict[str, str], float]]:
    """The labels and values of a metric, as Prometheus reads them."""
    families = text_string_to_metric_families(await text_of(metrics))
    return [(sample.labels, sample.value) for family in families for sample in family.samples if sample.name == name]


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
async def test_request_has_a_series(name: str, labels: dict[str, str], value: float | None) -> None:
    samples = await samples_of(exported(REQUEST)[0], name)

    assert next((sample[1] for sample in samples if sample[0] == LABELS | labels), None) == value


async def test_deleted_request_leaves_no_series() -> None:
    metrics, exported_series = exported(REQUEST, replace(REQUEST, name="other"))
    before = await text_of(metrics)
    exported_series.pop(0)
    after = await text_of(metrics)

    assert ('name="acme"' in before, 'name="acme"' in after, 'name="other"' in after) == (True, False, True)


async def test_work_queue_is_exported_by_state() -> None:
    metrics, _ = exported()

    assert ({"state": "ready"}, 1) in await samples_of(metrics, "keyturn_workqueue_requests")


async def test_label_values_are_escaped() -> None:
    reason = 'a"b\\nc\nd\\'
    metrics, _ = exported(replace(REQUEST, conditions=(("Ready", "False", reason),)))

    (labels, _), *others = await samples_of(metrics, "keyturn_request_condition")
    assert (labels["reason"], others) == (reason, [])


async def test_many_requests_are_exported_in_groups_and_small_parts() -> None:
    metrics, _ = exported(*(replace(REQUEST, name=f"request-{number}") for number in range(5000)))
    exposition = await metrics.exposition()
    _, *parts = exposition.parts()
    lines = b"".join(parts).decode().splitlines()
    metric_names = [line.partition("{")[0] for line in lines if not line.startswith("#")]

    assert max(map(len, parts)) <= 65536
    assert len(lines) == 5000 * 9 + 3 + 2 * 9
    # A name that appears again after another one would be a second group.
    assert len({*metric_names}) == sum(name != before for before, name in itertools.pairwise(["", *metric_names]))


async def test_other_tasks_run_while_many_requests_are_exported() -> None:
    metrics, _ = exported(*[REQUEST] * 5000)
    exporting, steps = asyncio.create_task(metrics.exposition()), 0
    while not exporting.done():
        await asyncio.sleep(0)
        steps += 1

    assert steps >= 100


def test_build_info_has_the_version() -> None:
    assert Metrics().registry.get_sample_value("keyturn_build_info", {"version": __version__}) == 1


async def test_counters_have_no_created_series() -> None:
    metrics = Metrics()
    metrics.renewals.labels("success", "Due").inc()

    assert "_created" not in await text_of(metrics)
