"""Renews one TokenRequest without Kubernetes: the same reconciliation as in the operator, with files as Secrets."""
