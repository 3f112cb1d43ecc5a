"""Keyturn keeps short-lived AWS credentials fresh: a pipeline of exchanges from a source to a Secret.

Each package imports only from the packages below it:

    cli         commands; the only code that reads the real clock and random numbers
    controller  Kubernetes: watches, the work queue, Secrets, status and Events
    standalone  the same reconciliation with files instead of Secrets
    sidecar     serves a mounted Secret to the AWS SDKs of a pod
    reconcile   reconcile(): the one place where the order of a renewal is decided
    exchanges   calls to external systems, one module for each
    metrics     every metric name
    strict_yaml YAML as kubectl and the API server read it
    core        decisions without I/O
    api         TokenRequest v1alpha1: types, rules, CRD generation
"""

__version__ = "0.1.0"
