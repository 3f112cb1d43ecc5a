"""An environment to try Keyturn: run `make playground`, then follow docs/getting-started.md in another shell.

It consists of a Kubernetes control plane without nodes, an AWS emulator whose OAuth issuer stands for those of the
examples, an OpenID provider to sign in at and, if Prometheus is installed, a Prometheus with the chart's rules. Because
there is no node, the operator runs as a process with the chart's service account while Helm's Deployment exists.
"""
