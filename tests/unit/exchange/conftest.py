from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest

from keyturn.core.settings import AwsSettings
from keyturn.exchange.aws import Aws
from keyturn.metrics import Metrics
from tests.aws import running
from tests.aws.running import running_emulator


def real_now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the emulator lives by the real clock


def settings(emulator: running.Aws) -> AwsSettings:
    return AwsSettings(endpoints=dict.fromkeys(("sts", "license-manager"), emulator.url))


@pytest.fixture(scope="session")
def running_aws() -> Iterator[running.Aws]:
    with running_emulator() as emulator:
        yield emulator


@pytest.fixture
def emulator(running_aws: running.Aws) -> running.Aws:
    """AWS, with no faults and all counts at zero."""
    running_aws.reset()
    return running_aws


@pytest.fixture(scope="session")
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture(scope="session")
def client(running_aws: running.Aws, metrics: Metrics) -> Iterator[Aws]:
    """Our client of AWS, for all tests that do not need one of their own."""
    with closing(Aws(settings(running_aws), metrics, real_now)) as made:
        yield made
