"""The AWS emulator, and a directory for a standalone process."""

from pathlib import Path

import pytest

from tests.support.emulator.fixtures import aws, emulator
from tests.support.emulator.running import Aws
from tests.support.standalone_process import StandaloneDirectory

__all__ = ["aws", "emulator"]


@pytest.fixture
def directory(aws: Aws, tmp_path: Path) -> StandaloneDirectory:
    """A directory with settings and without a manifest."""
    return StandaloneDirectory(tmp_path, aws)
