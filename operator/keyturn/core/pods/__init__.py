"""Pods that use Keyturn's Secrets: injection of the sidecar, and a lint for mistakes that make them miss renewals.

The chart's admission policies make the same change and print the same warnings in a cluster. A test compares both.
"""
