"""An AWS, and a place where standalone mode works."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aws.running import Aws, running_emulator
from tests.standalone.place import Place


@pytest.fixture(scope="session")
def emulator() -> Iterator[Aws]:
    """One AWS for the whole session."""
    with running_emulator() as aws:
        yield aws


@pytest.fixture
def aws(emulator: Aws) -> Aws:
    """The AWS, with no faults and all counts at zero."""
    emulator.reset()
    return emulator


@pytest.fixture
def place(aws: Aws, tmp_path: Path) -> Place:
    """A place with settings, and nothing to renew yet."""
    return Place(tmp_path, aws)
