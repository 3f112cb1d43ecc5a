"""Installs the CRD alone."""

from tests.support.cluster.chart import chart_objects
from tests.support.controlplane import ControlPlane

CRD = "crd/tokenrequests.keyturn.dev"


def install_crd(plane: ControlPlane) -> None:
    """Apply the CRD and wait until the API server serves it."""
    plane.kubectl("apply", "-f", "-", stdin=chart_objects(only=["crds"]))
    plane.kubectl("wait", "--for=condition=Established", CRD, "--timeout=30s")
