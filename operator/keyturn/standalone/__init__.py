"""Renews one TokenRequest without Kubernetes: reconciles as the operator does, with files instead of Secrets."""
