"""A real node with a real control plane, in namespaces of its own: pods run, and nothing of it is left behind.

- `machine`: whether a node can be started here; what Debian's packages have to offer for it
- `images`: the images that its pods use, imported once
- `inside`: the program that is the node, with its `configuration`
- `cgroups`: where its processes and containers are counted
- `node`: Node, the handle on it from outside; `relay`: how each reaches the other

`python -m tests.support.node build` makes all that takes minutes, `python -m tests.support.node run` starts one.
"""

from tests.support.node.machine import require_fitness
from tests.support.node.node import Node
from tools.image import UnfitError

__all__ = ["Node", "UnfitError", "require_fitness"]
