"""The chart's rules and dashboard: promtool's cases, and a real Prometheus on loopback.

- `binaries`: where promtool and prometheus come from
- `running`: a Prometheus that scrapes what it is given
- `rules_test.yaml`: every alert, not firing, firing and resolved
"""
