from collections.abc import Iterator
from contextlib import closing

import pytest

from keyturn.core.settings import AwsSettings
from keyturn.exchange.aws import Aws
from keyturn.exchange.pace import Paces
from tests.aws import running
from tests.aws.running import running_emulator
from tests.unit.exchange.steps import aws


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
def shared_client(running_aws: running.Aws) -> Iterator[Aws]:
    """To make one costs a quarter of a second."""
    with closing(aws(settings(running_aws))) as made:
        yield made


@pytest.fixture
def client(shared_client: Aws) -> Aws:
    """Our client of AWS, as if no throttle had ever slowed it down."""
    shared_client._paces = Paces()
    return shared_client
