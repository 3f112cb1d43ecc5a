"""Pods that use what is renewed: the sidecar that serves them, and mistakes by which they would not see it.

The chart's policies do in a cluster what `injected` does to a manifest; a test holds them against each other.
"""

from keyturn.core.pods.injection import Sidecar, injected
from keyturn.core.pods.lint import Trap, traps
from keyturn.core.pods.manifest import INJECT, ManifestError

__all__ = ["INJECT", "ManifestError", "Sidecar", "Trap", "injected", "traps"]
