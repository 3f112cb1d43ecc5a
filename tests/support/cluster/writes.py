"""Counts the API server's write requests with its own metrics."""

import re
from collections import Counter

from tests.support.controlplane import ControlPlane

_REQUESTS = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
# Without DELETE: the garbage collector may still be deleting objects of earlier tests.
_WRITES = ("APPLY", "PATCH", "POST", "PUT")
_RESOURCES = ("events", "secrets", "tokenrequests")


def count_writes(plane: ControlPlane) -> Counter[str]:
    """Count the write requests so far, such as "APPLY secrets", including those of kubectl but no dry runs."""
    counts: Counter[str] = Counter()
    for text, count in _REQUESTS.findall(plane.metrics()):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', text))
        if labels["verb"] in _WRITES and labels["resource"] in _RESOURCES and not labels["dry_run"]:
            subresource = f"/{labels['subresource']}" if labels["subresource"] else ""
            counts[f"{labels['verb']} {labels['resource']}{subresource}"] += int(float(count))
    return counts
