"""An AWS, and a place where standalone mode works."""

from pathlib import Path

import pytest

from tests.support.emulator.client import Emulator
from tests.support.emulator.fixtures import aws, shared_emulator
from tests.support.standalone_process import Place

__all__ = ["aws", "shared_emulator"]


@pytest.fixture
def place(aws: Emulator, tmp_path: Path) -> Place:
    """A place with settings, and nothing to renew yet."""
    return Place(tmp_path, aws)
