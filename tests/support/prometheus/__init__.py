"""Prometheus for tests of the chart's rules and dashboard."""
