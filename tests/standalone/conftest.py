"""An AWS, and a place where standalone mode works."""

from pathlib import Path

import pytest

from tests.aws.fixtures import aws, emulator
from tests.aws.running import Aws
from tests.standalone.place import Place

__all__ = ["aws", "emulator"]


@pytest.fixture
def place(aws: Aws, tmp_path: Path) -> Place:
    """A place with settings, and nothing to renew yet."""
    return Place(tmp_path, aws)
