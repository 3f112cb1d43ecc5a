"""The AWS of a folder's tests: what its conftest imports from here is its own."""

from collections.abc import Iterator

import pytest

from tests.support.emulator.running import Aws, running_emulator


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
