"""Pods that use what is renewed: the sidecar that serves them, and mistakes by which they would not see it.

The chart's policies do in a cluster what `injected` does to a manifest; a test holds them against each other.
"""
