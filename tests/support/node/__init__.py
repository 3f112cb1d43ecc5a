"""A real node with a control plane, in its own network, mount and process namespaces; it leaves nothing behind.

`python -m tests.support.node build` makes everything that takes minutes, `... run` starts a node.
"""

from tests.support.node.machine import require_node_support
from tests.support.node.node import Node
from tools.image import UnfitError

__all__ = ["Node", "UnfitError", "require_node_support"]
