"""A real Kubernetes control plane for tests and for the demo, on loopback, in about four seconds.

- `build`: the programs, built from Go modules (`golang`) once and kept (`cache`)
- `plane`: ControlPlane, one that we start and stop; `configuration`: what its servers are told
- `process`: one server; `with_parent`: how it dies with us
- `cluster`: ExistingCluster, one by its kubeconfig

`python -m tests.support.controlplane build` builds all, `python -m tests.support.controlplane run` starts one.
"""

from tests.support.controlplane.build import binary
from tests.support.controlplane.cluster import ExistingCluster, KubectlError
from tests.support.controlplane.parent_death import die_with_parent
from tests.support.controlplane.plane import ControlPlane

__all__ = ["ControlPlane", "ExistingCluster", "KubectlError", "binary", "die_with_parent"]
