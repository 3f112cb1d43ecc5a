"""Pods that use what is renewed: the sidecar that serves them, and mistakes by which they would not see it.

The chart's policies do in a cluster what `injected` does to a manifest; a test holds them against each other.
"""

from keyturn.core.pod.injection import Sidecar, injected
from keyturn.core.pod.manifest import INJECT, ManifestError
from keyturn.core.pod.traps import Trap, traps

__all__ = ["INJECT", "ManifestError", "Sidecar", "Trap", "injected", "traps"]
