"""A namespace of a test: what a user does in it, by kubectl."""

import base64
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml

from tests.controlplane import ControlPlane

_numbers = itertools.count(1)
T = TypeVar("T")
ROLE = "arn:aws:iam::111122223333:role/LicenseConsumer"


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace, and the administrator's hand in it."""

    name: str
    plane: ControlPlane

    @classmethod
    def created(cls, plane: ControlPlane) -> "Namespace":
        """Make one with a name of its own."""
        name = f"test-{next(_numbers)}"
        plane.kubectl("create", "namespace", name)
        return cls(name, plane)

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl in this namespace."""
        return self.plane.kubectl("--namespace", self.name, *args, stdin=stdin, check=check)

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply manifests."""
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests))

    def token(self, token: str, *, name: str = "license", key: str = "license_token") -> None:
        """Make or replace a source Secret."""
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {key: token}})

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

    def status(self, name: str) -> dict[str, Any]:
        """Get the status of a TokenRequest."""
        found: dict[str, Any] = self.read("tokenrequest", name).get("status", {})
        return found

    def is_ready(self, name: str, timeout: int = 20) -> None:
        """Wait until a TokenRequest is Ready."""
        self.kubectl("wait", "--for=condition=Ready", f"treq/{name}", f"--timeout={timeout}s")

    def events(self, name: str) -> list[str]:
        """Get the reasons of the Events about a TokenRequest, the oldest first."""
        found = json.loads(
            self.kubectl("get", "events", "-o", "json", f"--field-selector=involvedObject.name={name}")
        )
        return [
            event["reason"]
            for event in sorted(found["items"], key=lambda e: str(e["metadata"]["creationTimestamp"]))
        ]


def until(what: Callable[[], T], *, seconds: float = 20, every: float = 0.1) -> T:
    """Wait until something is true and return it; the test fails with the last value if it never is."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still {value!r} after {seconds} s")
        time.sleep(every)
    return value


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
