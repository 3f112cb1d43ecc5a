"""The limit on a spec's memory: the operator keeps each spec in memory for as long as its TokenRequest exists."""

import sys
from typing import Any

from keyturn.api.base import InvalidSpecError

# Eight templates of the maximum length fit if they are ASCII. The limits in the schema count characters, but Python
# needs four bytes for each character of a text that contains an emoji.
MAX_SPEC_BYTES = 192 * 1024


def spec_bytes(spec: Any) -> int:
    """Return how many bytes of memory a JSON value takes in Python."""
    total, values = 0, [spec]
    while values:
        value = values.pop()
        total += sys.getsizeof(value)
        if isinstance(value, dict):
            values += [*value, *value.values()]
        elif isinstance(value, list):
            values += value
    return total


def check_spec_bytes(size: int) -> None:
    """Raise InvalidSpecError if a spec takes too much memory."""
    if size > MAX_SPEC_BYTES:
        raise InvalidSpecError(
            f"the spec needs {size // 1024} KiB of memory, but at most {MAX_SPEC_BYTES // 1024} KiB are allowed:"
            " shorten templates, labels and annotations, or use only ASCII characters in them (at spec)"
        )
