"""Keyturn keeps short-lived AWS credentials fresh: a pipeline of exchanges from a source to a Secret.

The parts, each importing only what stands below it:

    cli       settings in, a running shell out; the only real clock and dice
    kube      the Kubernetes shell: events in, an agenda, Secrets and status out
    sidecar   the pod shell: what is held goes to the SDKs of one pod
    renew     the spine: read, decide, exchange, write
    exchange  one file per system that tokens are exchanged with
    metrics   every metric name
    core      decisions without I/O: the API, what travels, when, what failed, what is told
"""

__version__ = "0.1.0"
