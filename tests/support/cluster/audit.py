"""The requests of a service account, from the API server's audit log."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.support.controlplane import ControlPlane


class Right(NamedTuple):
    """A verb on a resource, in all namespaces if `namespace` is empty."""

    namespace: str
    resource: str
    verb: str


@dataclass(frozen=True, slots=True)
class Audit:
    """The audit log of one user's requests."""

    file: Path
    user: str

    def events(self, offset: int) -> Iterator[dict[str, Any]]:
        """Yield the requests logged after this offset, in bytes."""
        with self.file.open("rb") as log:
            log.seek(offset)
            for line in log:
                event = json.loads(line)
                if event["user"]["username"] == self.user:
                    yield event

    @property
    def size(self) -> int:
        return self.file.stat().st_size


@contextmanager
def audited_plane(directory: Path, user: str) -> Iterator[tuple[ControlPlane, Audit]]:
    """Start a control plane whose API server logs each request of a user, without its body."""
    policy = directory / "policy.yaml"
    rules = [{"level": "Metadata", "users": [user]}, {"level": "None"}]
    # Log a watch when it starts: it may end after the test.
    head = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"]}
    policy.write_text(yaml.safe_dump(head | {"rules": rules}))
    audit = Audit(directory / "audit.log", user)
    audit.file.touch()
    flags = [f"--audit-policy-file={policy}", f"--audit-log-path={audit.file}"]
    (directory / "plane").mkdir()
    with ControlPlane.started(directory / "plane", {"kube-apiserver": flags}) as plane:
        yield plane, audit


def used_rights(events: Iterable[dict[str, Any]]) -> set[Right]:
    """Return the rights that these requests needed, each with the namespace of the request."""
    rights = set()
    for event in events:
        target = event.get("objectRef", {})
        # Rights that every user has, such as discovery, are granted to a group.
        if "to ServiceAccount" in event["annotations"]["authorization.k8s.io/reason"]:
            resource = f"{target.get('apiGroup', '')}/{target['resource']}/{target.get('subresource', '')}"
            verbs = {event["verb"]}
            if event["verb"] == "patch" and event.get("responseStatus", {}).get("code") == 201:
                # An apply that creates the object needs both rights.
                verbs.add("create")
            rights |= {Right(target.get("namespace", ""), resource, verb) for verb in verbs}
    return rights


def granted_rights(manifests: str) -> set[Right]:
    rights = set()
    for role in yaml.safe_load_all(manifests):
        for rule in role.get("rules", ()) if role else ():
            for group, resource, verb in product(rule["apiGroups"], rule["resources"], rule["verbs"]):
                name, _, part = resource.partition("/")
                rights.add(Right(role["metadata"].get("namespace", ""), f"{group}/{name}/{part}", verb))
    return rights
