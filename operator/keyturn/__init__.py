"""Keyturn keeps short-lived AWS credentials fresh: a pipeline of exchanges from a source to a Secret.

The packages, each importing only what stands below it:

    cli         commands; the only real clock and randomness, the wiring of processes
    controller  Kubernetes: watches in, a work queue, Secrets, status and Events out
    standalone  the same reconciliation on files
    sidecar     serves a mounted Secret to the AWS SDKs of a pod
    reconcile   reconcile(): the one place where the order of a renewal is decided
    exchanges   the calls, one module or package per external system
    metrics     every metric name
    core        decisions without I/O
    api         TokenRequest v1alpha1: types, rules, CRD generation
"""

__version__ = "0.1.0"
