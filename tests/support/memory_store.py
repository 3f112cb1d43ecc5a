"""The Store in memory, and the changes that users make to its Secrets."""

import itertools
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from keyturn.api.source import SecretKeyRef
from keyturn.api.times import rfc3339
from keyturn.api.token_request import Request
from keyturn.core.errors import BeingDeletedError, KeyturnError, RefusedError
from keyturn.core.issuance import (
    EXPIRES_AT,
    ISSUANCE_ANNOTATION,
    MANAGED_BY,
    OWNER_UID,
    Issuance,
    TargetSecret,
    annotations,
    data_hash,
    field_manager,
    is_adopted,
    labels,
    read_issuance,
)
from keyturn.core.pipeline_values import SourceValues, parse_source
from keyturn.core.renewal import check_ours
from tests.support.rotation import Checkpoint, no_checkpoint


@dataclass(slots=True)
class Secret:
    """A Secret as the API server stores it. `version` grows with each change.

    `applied` names the labels and annotations that Keyturn applied: server-side apply removes them when they are no
    longer applied.
    """

    uid: str
    version: int
    data: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    owners: frozenset[str] = frozenset()
    managers: frozenset[str] = frozenset()
    applied: frozenset[str] = frozenset()
    immutable: bool = False

    @property
    def issuance(self) -> Issuance | None:
        """The issuance record, if it is valid."""
        return read_issuance(self.annotations)


class Secrets:
    """The Store in memory. It behaves like the cluster's store with a watch that has no delay.

    `calls` counts the calls by name, `failures` are raised by the call with that name, and `deleted_uids` are the uids
    of TokenRequests that were deleted. A Secret without our label that was never read before is found only by a dry
    run, because no watch contains it.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.checkpoint: Checkpoint = no_checkpoint
        self.failures: dict[str, KeyturnError | BeingDeletedError] = {}
        self.deleted_uids: set[str] = set()
        self._secrets: dict[tuple[str, str], Secret] = {}
        self._seen: set[tuple[str, str]] = set()
        self._numbers = itertools.count(1)

    # For tests.

    def get(self, name: str, namespace: str = "billing") -> Secret:
        """Return a Secret. Raises KeyError if it does not exist."""
        return self._secrets[namespace, name]

    def names(self) -> set[str]:
        """Return the names of all Secrets."""
        return {name for _, name in self._secrets}

    def put(self, name: str, namespace: str = "billing", **changes: Any) -> Secret:
        """Create a Secret or change its fields, as a user does. Keys that `data` does not contain are unchanged."""
        number = next(self._numbers)
        before = self._secrets.get((namespace, name)) or Secret(f"secret-{number}", number)
        if "data" in changes:
            changes["data"] = before.data | changes["data"]
        self._secrets[namespace, name] = replace(before, version=number, **changes)
        return self._secrets[namespace, name]

    def delete(self, name: str, namespace: str = "billing") -> None:
        """Delete a Secret."""
        self._secrets.pop((namespace, name), None)

    # The Store protocol.

    async def read_target(self, request: Request) -> TargetSecret | None:
        """Return the target if a watch by label would contain it, or if it was read before."""
        await self._called("read_target")
        secret = self._secrets.get(_target(request))
        ours = secret and secret.labels.get(MANAGED_BY) == "keyturn"
        return self._see(request) if ours or _target(request) in self._seen else None

    async def read_source(self, request: Request) -> SourceValues:
        """Read the source."""
        await self._called("read_source")
        source = request.spec.source
        ref, keys_ref = source.token_ref, source.keys_ref
        token = self._value(request, ref) if ref else None
        keys = self._secrets.get((request.namespace, keys_ref.name)) if keys_ref else None
        if keys_ref and keys is None:
            raise RefusedError("SourceNotFound", f"Secret {keys_ref.name} does not exist")
        credential = self._value(request, request.spec.single_use_ref) if request.spec.single_use_ref else None
        return parse_source(token, keys.data if keys else None, credential)

    def _value(self, request: Request, ref: SecretKeyRef) -> str:
        secret = self._secrets.get((request.namespace, ref.name))
        if secret is None or not secret.data.get(ref.key):
            raise RefusedError("SourceNotFound", f"Secret {ref.name} has no key {ref.key}")
        return secret.data[ref.key]

    async def dry_run(self, request: Request) -> None:
        """Refuse a target of another owner, and a request that was deleted."""
        await self._called("dry_run")
        if request.uid in self.deleted_uids:
            raise BeingDeletedError("the TokenRequest was deleted")
        target = self._see(request)
        if target:
            check_ours(request, target)

    async def write(self, request: Request, issuance: Issuance, data: dict[str, str]) -> None:
        """Apply the whole Secret, then release those of a former secretName."""
        await self._called("write")
        self._apply(request, issuance, data)
        former = [place for place, secret in self._secrets.items() if _wrote(secret, request)]
        for place in former:
            if place != _target(request):
                self._release(request, place)
        await self.checkpoint("after write")

    async def apply_metadata(self, request: Request, issuance: Issuance) -> None:
        """Apply the whole Secret with its current data."""
        await self._called("apply_metadata")
        target, secret = self._see(request), self._secrets.get(_target(request))
        if secret and target and target.issuance and target.data_hash == target.issuance.data_hash:
            self._apply(request, issuance, {key: secret.data[key] for key in target.issuance.keys})

    async def _called(self, name: str) -> None:
        await self.checkpoint(f"before {name}")
        self.calls[name] += 1
        if name in self.failures:
            raise self.failures[name]

    def _see(self, request: Request) -> TargetSecret | None:
        secret = self._secrets.get(_target(request))
        if secret is None:
            self._seen.discard(_target(request))
            return None
        self._seen.add(_target(request))
        return _to_target(request, secret)

    def _apply(self, request: Request, issuance: Issuance, data: dict[str, str]) -> None:
        secret = self._secrets.get(_target(request))
        target = _to_target(request, secret) if secret else None
        if target:
            check_ours(request, target)
        before = secret or Secret("", 0)
        old_keys = before.issuance.keys if before.issuance else ()
        adopted = is_adopted(request, target)
        issuance = msgspec.structs.replace(issuance, adopted=adopted)
        issuance_annotations = {ISSUANCE_ANNOTATION: issuance.encoded(), EXPIRES_AT: rfc3339(issuance.expires)}
        others = before.owners - {request.uid, before.issuance.uid if before.issuance else ""}
        owned = not request.should_retain_secret and not adopted
        self.put(request.secret_name, request.namespace)
        self._seen.add(_target(request))
        self._secrets[_target(request)] = replace(
            self._secrets[_target(request)],
            data={key: value for key, value in before.data.items() if key not in old_keys} | data,
            labels=_without(before.labels, before.applied) | labels(request),
            annotations=_without(before.annotations, before.applied) | annotations(request) | issuance_annotations,
            owners=others | ({request.uid} if owned else set()),
            managers=frozenset({field_manager(request.uid)}),
            applied=frozenset(labels(request)) | frozenset(annotations(request)),
        )

    def _release(self, request: Request, place: tuple[str, str]) -> None:
        secret = self._secrets[place]
        old_annotations, old_labels = {ISSUANCE_ANNOTATION, EXPIRES_AT}, {MANAGED_BY, OWNER_UID}
        if is_adopted(request, _to_target(request, secret)):
            keys = secret.issuance.keys if secret.issuance else ()
            secret.data = _without(secret.data, keys)
            old_annotations, old_labels = (
                old_annotations | secret.applied,
                old_labels | secret.applied,
            )
        elif not request.should_retain_secret:
            del self._secrets[place]
            return
        secret.annotations = _without(secret.annotations, old_annotations)
        secret.labels = _without(secret.labels, old_labels)
        secret.owners = frozenset()


def _target(request: Request) -> tuple[str, str]:
    return request.namespace, request.secret_name


def _wrote(secret: Secret, request: Request) -> bool:
    return secret.issuance is not None and secret.issuance.uid == request.uid


def _without(values: Mapping[str, str], names: Container[str]) -> dict[str, str]:
    return {key: value for key, value in values.items() if key not in names}


def _to_target(request: Request, secret: Secret) -> TargetSecret:
    issuance = secret.issuance
    data = {key: secret.data[key] for key in (issuance.keys if issuance else ()) if key in secret.data}
    return TargetSecret(
        uid=secret.uid,
        resource_version=str(secret.version),
        issuance=issuance,
        labels=secret.labels,
        annotations=_without(secret.annotations, {ISSUANCE_ANNOTATION, EXPIRES_AT}),
        owners=secret.owners,
        managers=secret.managers,
        data_hash=data_hash(data, request),
        immutable=secret.immutable,
    )
