"""The AWS emulator, and a directory for a standalone process."""

from pathlib import Path

import pytest

from tests.support.emulator.client import Emulator
from tests.support.emulator.fixtures import aws, shared_emulator
from tests.support.standalone_process import StandaloneDirectory

__all__ = ["aws", "shared_emulator"]


@pytest.fixture
def directory(aws: Emulator, tmp_path: Path) -> StandaloneDirectory:
    """A directory with settings and without a manifest."""
    return StandaloneDirectory(tmp_path, aws)
