"""The emulator's fixtures; a conftest.py imports those that its tests use."""

from collections.abc import Iterator

import pytest

from tests.support.emulator.client import Emulator, running_emulator


@pytest.fixture(scope="session")
def shared_emulator() -> Iterator[Emulator]:
    with running_emulator() as emulator:
        yield emulator


@pytest.fixture
def aws(shared_emulator: Emulator) -> Emulator:
    """The emulator without faults, with all counts at zero."""
    shared_emulator.reset()
    return shared_emulator
