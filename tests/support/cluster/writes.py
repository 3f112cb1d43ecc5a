"""Counts the API server's write requests with its own metrics."""

from collections import Counter

from tests.support.controlplane import ControlPlane
from tools.bench.usage import api_requests

# Without DELETE: the garbage collector may still be deleting objects of earlier tests.
_WRITES = ("APPLY", "PATCH", "POST", "PUT")


def count_writes(plane: ControlPlane) -> Counter[str]:
    """Count the write requests so far, such as "APPLY secrets", including those of kubectl but no dry runs."""
    requests = api_requests(plane.metrics())
    return Counter({it: n for it, n in requests.items() if it.startswith(_WRITES) and not it.endswith("dry run")})
