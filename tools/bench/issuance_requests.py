"""The requests of one issuance, with bodies copied from what the operator sent for a sample."""

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tools.bench.client import API, MERGE, METADATA, ApiRequest

_APPLY = "application/apply-patch+yaml"


class Place(NamedTuple):
    """A TokenRequest."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class IssuanceRequests:
    """The requests for any TokenRequest. `bodies` have placeholders for its name and uid."""

    bodies: Mapping[str, Any]

    def source_read(self, place: Place) -> ApiRequest:
        return ApiRequest("GET", f"{_core(place)}/secrets/keys")

    def secret_apply(self, place: Place, *, dry_run: bool = False, is_renewal: bool = False) -> ApiRequest:
        """Apply the Secret, in a renewal with other values of the same length."""
        secret = self._body("secret", place)
        if dry_run or is_renewal:
            secret["data"] = {key: _other(value) for key, value in secret["data"].items()} if is_renewal else {}
        query = f"fieldManager=keyturn-{place.uid[:8]}" + ("&dryRun=All" if dry_run else "")
        return ApiRequest("PATCH", f"{_core(place)}/secrets/{place.name}?{query}", secret, _APPLY, METADATA)

    def status_write(self, place: Place, *, is_renewal: bool = False) -> ApiRequest:
        """Write the status, in a renewal with another revision."""
        body = self._body("status", place)
        body["status"]["revision"] += is_renewal
        return ApiRequest("PATCH", f"{_ours(place)}/tokenrequests/{place.name}/status", body, MERGE)

    def event(self, place: Place) -> ApiRequest:
        """Create the Event of a first issuance."""
        body = self._body("event", place)
        body["metadata"]["namespace"] = body["involvedObject"]["namespace"] = place.namespace
        return ApiRequest("POST", f"{_core(place)}/events", body)

    def _body(self, kind: str, place: Place) -> dict[str, Any]:
        text = json.dumps(self.bodies[kind]).replace("SAMPLE-UID", place.uid).replace("SAMPLE-NAME", place.name)
        body: dict[str, Any] = json.loads(text)
        return body


def _core(place: Place) -> str:
    return f"/api/v1/namespaces/{place.namespace}"


def _ours(place: Place) -> str:
    return f"{API}/namespaces/{place.namespace}"


def _other(encoded: str) -> str:
    return base64.b64encode(os.urandom(len(base64.b64decode(encoded)))).decode()
