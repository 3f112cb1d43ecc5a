"""Renewal without Kubernetes: the same reconciliation on files."""
