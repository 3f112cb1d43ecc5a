"""The cluster fixtures, shared by the tests that need a cluster."""

from tests.support.cluster.fixtures import (
    aws,
    between,
    emulator,
    installed,
    loopback_operator,
    namespace,
    operator,
    own_operator,
    shared_operator,
)

__all__ = [
    "aws", "between", "emulator", "installed", "loopback_operator", "namespace", "operator", "own_operator",
    "shared_operator",
]  # fmt: skip
