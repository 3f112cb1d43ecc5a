"""The operator in a cluster: watches, work queue, leader election, and reads and writes of the Kubernetes API."""

import importlib.util
import sys

# Executed, this package imports the synchronous client with requests and oauthlib: 8 MiB and a fifth of the CPU time of
# the start. kubernetes.aio needs none of it.
if "kubernetes" not in sys.modules and (_spec := importlib.util.find_spec("kubernetes")):
    sys.modules["kubernetes"] = importlib.util.module_from_spec(_spec)
