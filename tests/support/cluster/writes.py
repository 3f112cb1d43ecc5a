"""What the API server was asked to write, by its own metrics."""

import re
from collections import Counter

from tests.support.controlplane import ControlPlane

_REQUESTS = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
_WRITES = ("APPLY", "PATCH", "POST", "PUT")  # not DELETE: the collector is at work for the tests before
_OURS = ("events", "secrets", "tokenrequests")


def writes(plane: ControlPlane) -> Counter[str]:
    """Count the requests to write so far, such as "APPLY secrets"; those of kubectl count like any other.

    A dry run writes nothing.
    """
    counted: Counter[str] = Counter()
    for labels, count in _REQUESTS.findall(plane.metrics()):
        of = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if of["verb"] in _WRITES and of["resource"] in _OURS and not of["dry_run"]:
            part = f"/{of['subresource']}" if of["subresource"] else ""
            counted[f"{of['verb']} {of['resource']}{part}"] += int(float(count))
    return counted
