"""Checks manifests without a cluster: all errors at once, each with its line and column."""
