"""Keyturn on a real Kubernetes API: never a mock of it, and never as its administrator."""
