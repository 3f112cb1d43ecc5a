"""The files of a release, built once for all tests."""

import pytest

from tools import release


@pytest.fixture(scope="session", autouse=True)
def _built() -> None:
    release.build()
