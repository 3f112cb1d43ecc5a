"""A real Kubernetes control plane on loopback, ready in about four seconds.

`python -m tests.support.controlplane build` builds its programs, `... run` starts one.
"""

from tests.support.controlplane.build import binary
from tests.support.controlplane.cluster import ExistingCluster, KubectlError
from tests.support.controlplane.parent_death import die_with_parent
from tests.support.controlplane.plane import ControlPlane

__all__ = ["ControlPlane", "ExistingCluster", "KubectlError", "binary", "die_with_parent"]
