"""Renews one TokenRequest without Kubernetes: the same reconciliation, with files in place of Secrets."""
