"""An AWS, and a place where standalone mode works."""

from pathlib import Path

import pytest

from tests.support.emulator.fixtures import aws, emulator
from tests.support.emulator.running import Aws
from tests.support.standalone_process import Place

__all__ = ["aws", "emulator"]


@pytest.fixture
def place(aws: Aws, tmp_path: Path) -> Place:
    """A place with settings, and nothing to renew yet."""
    return Place(tmp_path, aws)
