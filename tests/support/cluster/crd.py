"""Installs the chart's CRD, alone or with the operator's rights."""

from tests.support.cluster.chart import RIGHTS, chart_objects
from tests.support.controlplane import ControlPlane

CRD = "crd/tokenrequests.keyturn.dev"


def install_crd(plane: ControlPlane) -> None:
    """Apply the CRD and wait until the API server serves it."""
    plane.kubectl("apply", "-f", "-", stdin=chart_objects(only=["crds"]))
    plane.wait_for_crds(CRD)


def install_rights(plane: ControlPlane) -> None:
    """Create the operator's namespace with the CRD and RBAC."""
    plane.kubectl("create", "namespace", "keyturn")
    plane.kubectl("apply", "-f", "-", stdin=chart_objects(only=RIGHTS))
    plane.wait_for_crds(CRD)
