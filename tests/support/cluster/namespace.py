"""A namespace for one test, and what a user does in it with kubectl."""

import base64
import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until

_numbers = itertools.count(1)
ROLE = "arn:aws:iam::111122223333:role/LicenseConsumer"


class Cluster(Protocol):
    """Any cluster with administrator access."""

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl and return its output."""


C = TypeVar("C", bound=Cluster)


@dataclass(frozen=True, slots=True)
class NamespaceOf(Generic[C]):
    """A namespace of a cluster, used as its administrator."""

    name: str
    plane: C

    @classmethod
    def create(cls, plane: C) -> Self:
        """Create a namespace with a unique name."""
        name = f"test-{next(_numbers)}"
        plane.kubectl("create", "namespace", name)
        return cls(name, plane)

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl in this namespace."""
        return self.plane.kubectl("--namespace", self.name, *args, stdin=stdin, check=check)

    def apply(self, *manifests: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, manifests)))

    def put_secret(self, name: str, data: Mapping[str, str], *, labels: Mapping[str, str] | None = None) -> None:
        """Create or replace a Secret, without kubectl's annotation that repeats the values."""
        metadata = {"name": name, "labels": labels or {}}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(secret))

    def put_token(
        self,
        token: str,
        *,
        name: str = "license",
        key: str = "license_token",
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Create or replace a source Secret."""
        self.put_secret(name, {key: token}, labels=labels)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Get an object; an empty dict if it does not exist."""
        output = self.kubectl("get", kind, name, "-o", "json", "--ignore-not-found", "--show-managed-fields")
        return json.loads(output) if output else {}

    def secret_data(self, name: str) -> dict[str, str]:
        return {key: base64.b64decode(value).decode() for key, value in self.get("secret", name)["data"].items()}

    def condition(self, name: str, kind: str) -> tuple[str, str, str]:
        """Get status, reason and message of a condition of a TokenRequest; empty strings if it is not set."""
        for condition in self.status(name).get("conditions", []):
            if condition["type"] == kind:
                return condition["status"], condition["reason"], condition["message"]
        return "", "", ""

    def wait_for_condition(self, name: str, kind: str, reason: str, *, seconds: float = 20) -> str:
        """Wait until a condition of a TokenRequest has a reason, and return its message."""
        with self._status_on_failure(name):
            until(lambda: self.condition(name, kind)[1] == reason, seconds=seconds)
        return self.condition(name, kind)[2]

    def status(self, name: str) -> dict[str, Any]:
        status: dict[str, Any] = self.get("tokenrequest", name).get("status", {})
        return status

    def revision(self, name: str = "acme") -> int:
        """Get how often the credentials of a TokenRequest were issued; 0 before the first time."""
        revision: int = self.status(name).get("revision", 0)
        return revision

    def wait_for_revision(self, revision: int, name: str = "acme", *, seconds: float = 20) -> None:
        """Wait until the credentials of a TokenRequest were issued at least this often."""
        with self._status_on_failure(name):
            until(lambda: self.revision(name) >= revision, seconds=seconds)

    @contextmanager
    def _status_on_failure(self, name: str) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            error.add_note(f"status of {name}: {json.dumps(self.status(name))}")
            raise

    def issue(self, aws: Emulator, name: str = "acme", **spec: Any) -> None:
        """Create a source and the flagship TokenRequest, and wait until it is Ready."""
        self.put_token(aws.refresh_token())
        self.apply(token_request(name, **spec))
        self.wait_until_ready(name)

    def patch(self, kind: str, name: str, patch: dict[str, Any]) -> None:
        """Change an object with a merge patch: None removes a field."""
        self.kubectl("patch", kind, name, "--type=merge", "--patch-file=/dev/stdin", stdin=json.dumps(patch))

    def request_renewal(self, name: str, value: str) -> None:
        """Annotate a TokenRequest to be renewed now."""
        self.kubectl("annotate", "--overwrite", "treq", name, f"keyturn.dev/renew-requested-at={value}")

    def renew(self, revision: int, name: str = "acme", *, seconds: float = 20) -> None:
        """Request a renewal, and wait for this revision."""
        self.request_renewal(name, f"for revision {revision}")
        self.wait_for_revision(revision, name, seconds=seconds)

    def wait_until_ready(self, name: str, timeout: int = 20) -> None:
        self.kubectl("wait", "--for=condition=Ready", f"treq/{name}", f"--timeout={timeout}s")

    def events(self, name: str) -> list[str]:
        """Get the reasons of the Events of a TokenRequest, the oldest first."""
        selector = f"--field-selector=involvedObject.name={name}"
        items = json.loads(self.kubectl("get", "events", "-o", "json", selector))["items"]
        return [item["reason"] for item in sorted(items, key=lambda item: int(item["metadata"]["resourceVersion"]))]


class Namespace(NamespaceOf[ControlPlane]):
    """A namespace of the embedded control plane."""


def count_exchanges(aws: Emulator) -> int:
    """Count the calls of flagship TokenRequests so far: two for each issuance."""
    return aws.calls("GetAccessToken") + aws.calls("AssumeRoleWithWebIdentity")


def token_request(name: str = "acme", *, secret: str = "", **spec: Any) -> dict[str, Any]:
    """Build the flagship TokenRequest; `spec` replaces or adds fields."""
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
