"""The cluster fixtures, shared by the tests that need a cluster."""

from tests.support.cluster.fixtures import (
    aws,
    between,
    installed,
    loopback_operator,
    namespace,
    operator,
    own_operator,
    shared_emulator,
    shared_operator,
)

__all__ = [
    "aws", "between", "installed", "loopback_operator", "namespace", "operator", "own_operator",
    "shared_emulator", "shared_operator",
]  # fmt: skip
