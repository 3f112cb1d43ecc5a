"""What a service account asked of an API server, by the API server's own audit log."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.support.controlplane import ControlPlane


class Right(NamedTuple):
    """A verb on a resource; without a namespace it holds in all of them."""

    namespace: str
    resource: str
    verb: str


@dataclass(frozen=True, slots=True)
class Audit:
    """The log of all requests of one user."""

    file: Path
    user: str

    def events(self, since: int) -> Iterator[dict[str, Any]]:
        """The requests of the user that were logged after so many bytes."""
        with self.file.open("rb") as log:
            log.seek(since)
            for line in log:
                event = json.loads(line)
                if event["user"]["username"] == self.user:
                    yield event

    @property
    def size(self) -> int:
        return self.file.stat().st_size


@contextmanager
def audited_plane(directory: Path, user: str) -> Iterator[tuple[ControlPlane, Audit]]:
    """A control plane whose API server logs each request of a user, without its body."""
    policy = directory / "policy.yaml"
    rules = [{"level": "Metadata", "users": [user]}, {"level": "None"}]
    # A watch is told when it begins: its end may come after the test.
    about = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"]}
    policy.write_text(yaml.safe_dump(about | {"rules": rules}))
    audit = Audit(directory / "audit.log", user)
    audit.file.touch()
    flags = [f"--audit-policy-file={policy}", f"--audit-log-path={audit.file}"]
    (directory / "plane").mkdir()
    with ControlPlane.started(directory / "plane", {"kube-apiserver": flags}) as plane:
        yield plane, audit


def used(events: Iterator[dict[str, Any]]) -> set[Right]:
    """The rights that requests for objects made use of, each with the namespace that was asked."""
    rights = set()
    for event in events:
        about = event.get("objectRef", {})
        # What every user may do, such as discovery, comes to a group.
        if "to ServiceAccount" in event["annotations"]["authorization.k8s.io/reason"]:
            resource = f"{about.get('apiGroup', '')}/{about['resource']}/{about.get('subresource', '')}"
            verbs = {event["verb"]}
            if event["verb"] == "patch" and event.get("responseStatus", {}).get("code") == 201:
                # An apply of what was not there: the API server asks for both rights.
                verbs.add("create")
            rights |= {Right(about.get("namespace", ""), resource, verb) for verb in verbs}
    return rights


def granted(manifests: str) -> set[Right]:
    """The rights of the roles among these manifests."""
    rights = set()
    for role in yaml.safe_load_all(manifests):
        for rule in role.get("rules", ()) if role else ():
            for group, resource, verb in product(rule["apiGroups"], rule["resources"], rule["verbs"]):
                name, _, part = resource.partition("/")
                rights.add(Right(role["metadata"].get("namespace", ""), f"{group}/{name}/{part}", verb))
    return rights
