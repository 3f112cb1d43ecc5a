"""A namespace of a test: what a user does in it, by kubectl."""

import base64
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until

_numbers = itertools.count(1)
ROLE = "arn:aws:iam::111122223333:role/LicenseConsumer"


class Cluster(Protocol):
    """Any cluster where we are an administrator."""

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl and return what it printed."""


C = TypeVar("C", bound=Cluster)


@dataclass(frozen=True, slots=True)
class NamespaceOf(Generic[C]):
    """A namespace of some cluster, and the administrator's hand in it."""

    name: str
    plane: C

    @classmethod
    def created(cls, plane: C) -> Self:
        """Make one with a name of its own."""
        name = f"test-{next(_numbers)}"
        plane.kubectl("create", "namespace", name)
        return cls(name, plane)

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl in this namespace."""
        return self.plane.kubectl("--namespace", self.name, *args, stdin=stdin, check=check)

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply manifests."""
        self.kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, manifests)))

    def token(
        self,
        token: str,
        *,
        name: str = "license",
        key: str = "license_token",
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Make or replace a source Secret."""
        about = {"name": name, "labels": labels or {}}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": about, "stringData": {key: token}}
        # On the server, else kubectl itself keeps the token in an annotation.
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(secret))

    def read(self, kind: str, name: str) -> dict[str, Any]:
        """Get an object; an empty dict where there is none."""
        found = self.kubectl("get", kind, name, "-o", "json", "--ignore-not-found", "--show-managed-fields")
        return json.loads(found) if found else {}

    def data(self, name: str) -> dict[str, str]:
        """Get the data of a Secret, decoded."""
        return {key: base64.b64decode(value).decode() for key, value in self.read("secret", name)["data"].items()}

    def condition(self, name: str, kind: str) -> tuple[str, str, str]:
        """Get status, reason and message of a condition of a TokenRequest; empty strings where there is none."""
        status = self.read("tokenrequest", name).get("status", {})
        for one in status.get("conditions", []):
            if one["type"] == kind:
                return one["status"], one["reason"], one["message"]
        return "", "", ""

    def turns(self, name: str, kind: str, reason: str, *, seconds: float = 20) -> str:
        """Wait until a condition of a TokenRequest has a reason, and return its message."""
        until(lambda: self.condition(name, kind)[1] == reason, seconds=seconds)
        return self.condition(name, kind)[2]

    def status(self, name: str) -> dict[str, Any]:
        """Get the status of a TokenRequest."""
        found: dict[str, Any] = self.read("tokenrequest", name).get("status", {})
        return found

    def issued(self, aws: Emulator, name: str = "acme", **spec: Any) -> None:
        """Make a source and the flagship TokenRequest, and wait until it is Ready."""
        self.token(aws.refresh_token())
        self.apply(token_request(name, **spec))
        self.is_ready(name)

    def patch(self, kind: str, name: str, patch: dict[str, Any]) -> None:
        """Change an object by a merge patch: None removes a field."""
        self.kubectl("patch", kind, name, "--type=merge", "--patch-file=/dev/stdin", stdin=json.dumps(patch))

    def ask(self, name: str, value: str) -> None:
        """Ask a TokenRequest for a renewal now."""
        self.kubectl("annotate", "--overwrite", "treq", name, f"keyturn.dev/renew-requested-at={value}")

    def is_ready(self, name: str, timeout: int = 20) -> None:
        """Wait until a TokenRequest is Ready."""
        self.kubectl("wait", "--for=condition=Ready", f"treq/{name}", f"--timeout={timeout}s")

    def events(self, name: str) -> list[str]:
        """Get the reasons of the Events about a TokenRequest, the oldest first."""
        which = f"--field-selector=involvedObject.name={name}"
        found = json.loads(self.kubectl("get", "events", "-o", "json", which))["items"]
        return [it["reason"] for it in sorted(found, key=lambda it: int(it["metadata"]["resourceVersion"]))]


class Namespace(NamespaceOf[ControlPlane]):
    """A namespace of our control plane."""


def exchanges(aws: Emulator) -> int:
    """Count the calls that the flagship TokenRequest makes: two for each issue."""
    return aws.calls("GetAccessToken") + aws.calls("AssumeRoleWithWebIdentity")


def token_request(name: str = "acme", *, secret: str = "", **spec: Any) -> dict[str, Any]:
    """Make the flagship TokenRequest; `spec` replaces or adds fields."""
    flagship = {
        "source": {"token": {"secretKeyRef": {"name": "license", "key": "license_token"}}},
        "region": "us-east-1",
        "exchanges": [{"licenseManagerGetAccessToken": {}}, {"assumeRoleWithWebIdentity": {"roleArn": ROLE}}],
        **({"target": {"secretName": secret}} if secret else {}),
    }
    return {
        "apiVersion": "keyturn.dev/v1alpha1",
        "kind": "TokenRequest",
        "metadata": {"name": name},
        "spec": flagship | spec,
    }
