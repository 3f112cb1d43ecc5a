"""Tables of test cases."""

from collections.abc import Mapping
from typing import Any

import pytest


def cases(names: str, table: Mapping[str, Any]) -> pytest.MarkDecorator:
    """Parametrize a test with a table of argument values by the test's ID."""
    return pytest.mark.parametrize(names, list(table.values()), ids=list(table))
