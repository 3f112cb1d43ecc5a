"""Serves the credentials of one pod to its AWS SDKs, over the container credentials endpoint."""
