"""The cluster fixtures."""

from tests.support.cluster.fixtures import (
    api_proxy,
    aws,
    installed,
    loopback_operator,
    namespace,
    operator,
    own_operator,
    shared_emulator,
    shared_operator,
)

__all__ = [
    "api_proxy",
    "aws",
    "installed",
    "loopback_operator",
    "namespace",
    "operator",
    "own_operator",
    "shared_emulator",
    "shared_operator",
]  # fmt: skip
