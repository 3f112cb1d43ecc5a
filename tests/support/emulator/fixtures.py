"""The AWS of a folder's tests: what its conftest imports from here is its own."""

from collections.abc import Iterator

import pytest

from tests.support.emulator.client import Emulator, running_emulator


@pytest.fixture(scope="session")
def shared_emulator() -> Iterator[Emulator]:
    """One AWS for the whole session."""
    with running_emulator() as aws:
        yield aws


@pytest.fixture
def aws(shared_emulator: Emulator) -> Emulator:
    """The AWS, with no faults and all counts at zero."""
    shared_emulator.reset()
    return shared_emulator
