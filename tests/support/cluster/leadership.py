"""The Lease of operators that run with leader election, and which operator holds it."""

import json
import urllib.error

from tests.support.cluster.operator import Operator
from tests.support.controlplane import ControlPlane


def patch_lease(plane: ControlPlane, **spec: object) -> None:
    """Change the spec of the Lease; None removes a field."""
    patch = json.dumps({"spec": spec})
    plane.kubectl("--namespace", "keyturn", "patch", "lease", "keyturn", "--type=merge", "--patch", patch)


def is_leader(operator: Operator) -> bool:
    return operator.metric("keyturn_leader") == 1


def is_ready(operator: Operator) -> bool:
    try:
        return operator.get("/readyz") == "ok\n"
    except urllib.error.HTTPError:
        return False
