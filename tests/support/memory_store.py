"""The Store in memory: Secrets as users and the spine see them."""

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
from tests.support.rotation import Checkpoint, nothing


@dataclass(slots=True)
class Secret:
    """A Secret as the API server keeps it. `version` grows with each change of anything in it.

    `applied` names the labels and annotations that Keyturn applied, and not others, for they go when they are
    not applied any more.
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
        """The marks, where they count."""
        return read_issuance(self.annotations)


class Secrets:
    """The Store in memory: as true as the cluster's, but what happened is seen at once.

    `calls` counts what the spine asked for, `failures` are what it gets by the name of what it asks for, `gone`
    are the uids of TokenRequests that were deleted.
    A Secret that has neither our label nor was ever met is found by the rehearsal only, as no watch shows it.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.checkpoint: Checkpoint = nothing
        self.failures: dict[str, KeyturnError | BeingDeletedError] = {}
        self.gone: set[str] = set()
        self._secrets: dict[tuple[str, str], Secret] = {}
        self._met: set[tuple[str, str]] = set()
        self._numbers = itertools.count(1)

    # What a test does to them.

    def get(self, name: str, namespace: str = "billing") -> Secret:
        """The Secret as it is; KeyError where there is none."""
        return self._secrets[namespace, name]

    def names(self) -> set[str]:
        """The names of all Secrets."""
        return {name for _, name in self._secrets}

    def put(self, name: str, namespace: str = "billing", **changes: Any) -> Secret:
        """Make a Secret, or change fields of one, as a user does; what `data` does not name stays."""
        number = next(self._numbers)
        was = self._secrets.get((namespace, name)) or Secret(f"secret-{number}", number)
        if "data" in changes:
            changes["data"] = was.data | changes["data"]
        self._secrets[namespace, name] = replace(was, version=number, **changes)
        return self._secrets[namespace, name]

    def delete(self, name: str, namespace: str = "billing") -> None:
        """Delete a Secret."""
        self._secrets.pop((namespace, name), None)

    # What the Store promises.

    async def read_target(self, request: Request) -> TargetSecret | None:
        """Find the target, if a watch by label would show it or it was met before."""
        await self._called("read_target")
        secret = self._secrets.get(_target(request))
        ours = secret and secret.labels.get(MANAGED_BY) == "keyturn"
        return self._meet(request) if ours or _target(request) in self._met else None

    async def read_source(self, request: Request) -> SourceValues:
        """Read the source."""
        await self._called("read_source")
        wanted = request.spec.source
        ref, of_keys = wanted.token_ref, wanted.keys_ref
        token = self._value(request, ref) if ref else None
        keys = self._secrets.get((request.namespace, of_keys.name)) if of_keys else None
        if of_keys and keys is None:
            raise RefusedError("SourceNotFound", f"Secret {of_keys.name} does not exist")
        proof = self._value(request, request.spec.single_use_ref) if request.spec.single_use_ref else None
        return parse_source(token, keys.data if keys else None, proof)

    def _value(self, request: Request, ref: SecretKeyRef) -> str:
        secret = self._secrets.get((request.namespace, ref.name))
        if secret is None or not secret.data.get(ref.key):
            raise RefusedError("SourceNotFound", f"Secret {ref.name} has no key {ref.key}")
        return secret.data[ref.key]

    async def dry_run(self, request: Request) -> None:
        """Refuse the target of another, and a request that has gone."""
        await self._called("rehearse")
        if request.uid in self.gone:
            raise BeingDeletedError("the TokenRequest is gone")
        found = self._meet(request)
        if found:
            check_ours(request, found)

    async def write(self, request: Request, issuance: Issuance, data: dict[str, str]) -> None:
        """Apply the whole Secret, then see to those of a former secretName."""
        await self._called("write")
        self._apply(request, issuance, data)
        former = [place for place, secret in self._secrets.items() if _wrote(secret, request)]
        for place in former:
            if place != _target(request):
                self._let_go(request, place)
        await self.checkpoint("after write")

    async def apply_metadata(self, request: Request, issuance: Issuance) -> None:
        """Apply the whole Secret with the data it has."""
        await self._called("dress")
        found, secret = self._meet(request), self._secrets.get(_target(request))
        if secret and found and found.issuance and found.data_hash == found.issuance.data_hash:
            self._apply(request, issuance, {key: secret.data[key] for key in found.issuance.keys})

    async def _called(self, name: str) -> None:
        await self.checkpoint(f"before {name}")
        self.calls[name] += 1
        if name in self.failures:
            raise self.failures[name]

    def _meet(self, request: Request) -> TargetSecret | None:
        secret = self._secrets.get(_target(request))
        if secret is None:
            self._met.discard(_target(request))
            return None
        self._met.add(_target(request))
        return _found(request, secret)

    def _apply(self, request: Request, issuance: Issuance, data: dict[str, str]) -> None:
        secret = self._secrets.get(_target(request))
        found = _found(request, secret) if secret else None
        if found:
            check_ours(request, found)
        was = secret or Secret("", 0)
        gone = was.issuance.keys if was.issuance else ()
        adopted = is_adopted(request, found)
        issuance = msgspec.structs.replace(issuance, adopted=adopted)
        marked = {ISSUANCE_ANNOTATION: issuance.encoded(), EXPIRES_AT: rfc3339(issuance.expires)}
        others = was.owners - {request.uid, was.issuance.uid if was.issuance else ""}
        owned = not request.retains and not adopted
        self.put(request.secret_name, request.namespace)
        self._met.add(_target(request))
        self._secrets[_target(request)] = replace(
            self._secrets[_target(request)],
            data={key: value for key, value in was.data.items() if key not in gone} | data,
            labels=_without(was.labels, was.applied) | labels(request),
            annotations=_without(was.annotations, was.applied) | annotations(request) | marked,
            owners=others | ({request.uid} if owned else set()),
            managers=frozenset({field_manager(request.uid)}),
            applied=frozenset(labels(request)) | frozenset(annotations(request)),
        )

    def _let_go(self, request: Request, place: tuple[str, str]) -> None:
        secret = self._secrets[place]
        marked, labelled = {ISSUANCE_ANNOTATION, EXPIRES_AT}, {MANAGED_BY, OWNER_UID}
        if is_adopted(request, _found(request, secret)):
            keys = secret.issuance.keys if secret.issuance else ()
            secret.data = _without(secret.data, keys)
            marked, labelled = marked | secret.applied, labelled | secret.applied
        elif not request.retains:
            del self._secrets[place]
            return
        secret.annotations = _without(secret.annotations, marked)
        secret.labels = _without(secret.labels, labelled)
        secret.owners = frozenset()


def _target(request: Request) -> tuple[str, str]:
    return request.namespace, request.secret_name


def _wrote(secret: Secret, request: Request) -> bool:
    return secret.issuance is not None and secret.issuance.uid == request.uid


def _without(values: Mapping[str, str], names: Container[str]) -> dict[str, str]:
    return {key: value for key, value in values.items() if key not in names}


def _found(request: Request, secret: Secret) -> TargetSecret:
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
