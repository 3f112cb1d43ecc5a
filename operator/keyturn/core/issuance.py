"""The issuance record: a signed annotation with facts about the data of a Secret, written together with the data."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from keyturn.api.base import GROUP
from keyturn.api.status import MAX_REVISION
from keyturn.api.times import Moment
from keyturn.api.token_request import Request, canonical_hash
from keyturn.core.pipeline_values import SourceValues, Superseded

ISSUANCE_ANNOTATION = f"{GROUP}/issuance"
EXPIRES_AT = f"{GROUP}/expires-at"
ADOPTABLE_BY = f"{GROUP}/adoptable-by"
OWNER_UID = f"{GROUP}/owner-uid"
MANAGED_BY = "app.kubernetes.io/managed-by"
OUR_LABEL = f"{MANAGED_BY}=keyturn"
MAX_LIFETIME = timedelta(days=20 * 366)
# The limit for keys, of which eight formats write fewer, and for superseded tokens.
MAX_ITEMS = 100
_PLAUSIBLE_YEARS = range(2000, 9000)  # sums with times near the limits of datetime overflow
_SIGNATURE = re.compile(r',"key":([0-9]{1,9}),"mac":"([0-9a-f]{64})","digest":"[0-9a-f]*"\}\Z')
# Multiples of this fraction of the golden ratio are spread evenly between the integers.
_GOLDEN = 0.6180339887


class Issuance(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel", omit_defaults=True):
    """What was issued, for which request and from which source. `jitter` in [0, 1) is drawn once per issuance.

    `source` is the fingerprint of the source, `source_warns` the time from which its expiry is reported. `keys` are the
    keys of the data. `adopted` is sticky: removing the consent annotation later does not change ownership. `once`: the
    source was single-use, so no renewal is possible. `token_id` and `superseded` identify the current License Manager
    token and those before it. `identity_id` is the Cognito identity, which is requested only once. A digest of all
    fields, and of the data through its hash, is stored with the record, so that a record edited by hand is ignored. In
    a cluster, the record is also signed (see IssuanceKeys).
    """

    request: Annotated[str, Meta(max_length=253)]
    uid: Annotated[str, Meta(max_length=64)]
    issued: Moment
    expires: Moment
    renew: Moment
    jitter: Annotated[float, Meta(ge=0, lt=1)]
    request_hash: str
    exchange_hash: str
    metadata_hash: str
    data_hash: str
    source: str
    revision: Annotated[int, Meta(ge=0, le=MAX_REVISION)]
    keys: Annotated[tuple[str, ...], Meta(max_length=MAX_ITEMS)]
    handled_renew_request: str = ""
    principal: str = ""
    source_expires: Moment | None = None
    source_warns: Moment | None = None
    adopted: bool = False
    once: bool = False
    token_id: str = ""
    superseded: Annotated[tuple[Superseded, ...], Meta(max_length=MAX_ITEMS)] = ()
    identity_id: str = ""

    @property
    def due(self) -> datetime:
        """When the renewal is due in the queue: at one of ten moments of the second that begins at `renew`.

        If all renewals of a second started together, they would wait for each other. More moments would not reduce
        the waits further, but a renewal that starts alone takes more CPU time than one in a small group.
        """
        return self.renew + timedelta(seconds=int(self.jitter * 1000 * _GOLDEN % 1 * 10) / 10)

    def encoded(self) -> str:
        """Return the record with its digest and without a signature."""
        return with_digest(msgspec.json.encode(self).decode())


@dataclass(frozen=True, slots=True)
class TargetSecret:
    """The Secret with the target's name. Some fields are known only after a full read.

    `issuance` is the record that Keyturn wrote, None if there is none. `unverified` is a readable record that anyone
    may have written, so its contents are not trusted. `owners` are the uids of owner references, `managers` the field
    managers that are Keyturn's. `modified_by_others`: another client changed issued keys. `data_hash` (of the issued
    keys), `immutable`, `type` and `has_too_many_fields` require a full read.
    """

    uid: str
    resource_version: str
    issuance: Issuance | None
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owners: frozenset[str] = frozenset()
    managers: frozenset[str] = frozenset()
    modified_by_others: bool = False
    data_hash: str | None = None
    immutable: bool = False
    type: str = ""
    has_too_many_fields: bool = False
    unverified: Issuance | None = None

    @property
    def is_suitable(self) -> bool:
        """Whether a Secret like this one can be written for each renewal."""
        return not (self.immutable or self.has_too_many_fields)


def field_manager(uid: str) -> str:
    """Return the field manager of a request. Each has its own, so that no request owns the fields of another."""
    return f"keyturn-{uid[:8]}"


def labels(request: Request) -> dict[str, str]:
    """Return the labels of the target: Keyturn's own, and those of the spec."""
    return {MANAGED_BY: "keyturn", OWNER_UID: request.uid, **_metadata(request, "labels")}


def annotations(request: Request) -> dict[str, str]:
    """Return the annotations of the spec."""
    return _metadata(request, "annotations")


def is_adoptable(request: Request, target: TargetSecret | None) -> bool:
    """Whether the annotation on a Secret that Keyturn did not create allows this request to adopt it."""
    return target is not None and target.annotations.get(ADOPTABLE_BY) == request.name


def is_adopted(request: Request, target: TargetSecret | None) -> bool:
    """Whether a user created this Secret and let the request adopt it: it is not deleted with the request.

    Without a verified record, a Secret that lacks our owner reference counts as adopted: a user may have created it.
    """
    if target is None:
        return False
    is_recorded = target.issuance.adopted if target.issuance else request.uid not in target.owners
    return is_recorded or is_adoptable(request, target)


def may_delete(request: Request, target: TargetSecret) -> bool:
    """Whether Keyturn created this Secret. Only a verified record proves it: anyone may write labels and owners."""
    return target.issuance is not None and not is_adopted(request, target)


def read_issuance(annotations: Mapping[str, str]) -> Issuance | None:
    """Read the issuance record from a Secret's annotations; None if there is no valid one. The signature is ignored.

    The digest covers the text, not the parsed fields: a record of a newer release, with an additional field, is valid.
    """
    try:
        text, _, digest = annotations.get(ISSUANCE_ANNOTATION, "").rpartition(',"digest":"')
        if digest != _digest(text + "}") + '"}':
            return None
        issuance = msgspec.json.decode(text + "}", type=Issuance)
        return issuance if _is_plausible(issuance) else None
    except Exception:  # noqa: BLE001 - anyone may write the annotation; one that cannot be read is ignored
        return None


def _is_plausible(issuance: Issuance) -> bool:
    """Whether the times are in order and within a range in which they can be added.

    The digest has no key: anyone who may write the Secret can forge a record, which must not cause further harm.
    """
    moments = (issuance.issued, issuance.source_expires, issuance.source_warns, *(it.at for it in issuance.superseded))
    return all(moment == recordable(moment) for moment in moments) and (
        issuance.issued <= issuance.renew <= issuance.expires <= issuance.issued + MAX_LIFETIME
    )


def recordable(moment: datetime | None) -> datetime | None:
    """Return a time from an issuer, or None if a record that contains it would be rejected as implausible when read.

    Such a record would be replaced by each reconciliation. A JWT that does not expire may have an `exp` in year 9999.
    """
    return moment if moment and moment.year in _PLAUSIBLE_YEARS else None


def data_hash(data: Mapping[str, str], request: Request) -> str:
    """Hash a Secret's data, keyed with the request's name, so that equal data of two requests has different hashes."""
    return canonical_hash({key: fingerprint(value, request) for key, value in data.items()})


def fingerprint(value: str, request: Request) -> str:
    """Return 64 bits of a keyed hash: enough to detect a change of `value`, and too few to recover it.

    The key is the request's name and not its uid, so that it is the same after a restore or a re-creation.
    """
    key = f"{request.namespace}/{request.name}".encode()
    return hmac.new(key, value.encode(), hashlib.sha256).hexdigest()[:16]


def source_fingerprint(source: SourceValues, request: Request) -> str:
    """Return the fingerprint of all values of the source."""
    keys = source.credentials
    values = [
        source.token or "",
        *((keys.access_key_id, keys.secret_access_key, keys.session_token or "") if keys else ()),
    ]
    return fingerprint("\n".join(values), request)


def is_unchanged(ours: str, theirs: str) -> bool:
    """Whether two hashes are equal. Hashes of different versions count as equal, so that a downgrade renews nothing."""
    return ours == theirs or ours.partition(":")[0] != theirs.partition(":")[0]


def is_earlier(issuance: Issuance, last: Issuance) -> bool:
    """Whether a record is older than the last known one, because an earlier version of the Secret was restored."""
    return issuance.revision < last.revision or issuance.issued < last.issued


def moved(issuance: Issuance, step: timedelta) -> Issuance:
    """Return a record with its times moved by `step`, for example after the clock was set."""
    times = {"issued": issuance.issued + step, "expires": issuance.expires + step, "renew": issuance.renew + step}
    return msgspec.structs.replace(issuance, **times)


def kept_identity(last: Issuance | None, request: Request) -> str:
    """Return Cognito's identity ID of the last issuance, so that a renewal need not request it again."""
    return last.identity_id if last and is_unchanged(last.exchange_hash, request.exchange_hash) else ""


def is_ours(request: Request, target: TargetSecret) -> bool:
    """Whether the request may write this Secret.

    A verified record with the request's name and another uid belongs to a deleted request, because names are unique.
    So a request that was re-created, restored or moved to another cluster takes over its Secret. Without a verified
    record, a label, an owner reference or a field manager with the uid of this request is required.
    """
    if target.issuance:
        return target.issuance.request == request.name
    uid = request.uid
    has_traces = target.labels.get(OWNER_UID) == uid or uid in target.owners or field_manager(uid) in target.managers
    return has_traces or is_adoptable(request, target)


def has_current_metadata(request: Request, target: TargetSecret) -> bool:
    """Whether labels, annotations and owner are those of the spec."""
    is_owned = not request.should_retain_secret and not is_adopted(request, target)
    return (
        labels(request).items() <= target.labels.items()
        and annotations(request).items() <= target.annotations.items()
        and (request.uid in target.owners) == is_owned
    )


def _metadata(request: Request, kind: str) -> dict[str, str]:
    target = request.spec.target
    metadata: Mapping[str, str] | None = getattr(target.metadata, kind) if target and target.metadata else None
    return dict(metadata or {})


def with_digest(text: str) -> str:
    """Return a JSON object with its digest as the last member, the value of the annotation."""
    return f'{text[:-1]},"digest":"{_digest(text)}"}}'


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class IssuanceKeys:
    """Keys by number: the key with the highest number signs, and all keys verify.

    A signature also covers the namespace and the name of the Secret, so a record that was copied to another Secret is
    not verified.
    """

    keys: Mapping[int, bytes] = field(repr=False)

    def encode(self, issuance: Issuance, namespace: str, name: str) -> str:
        """Return the value of the annotation: the record with the number of the key and an HMAC-SHA256."""
        number, record = max(self.keys), msgspec.json.encode(issuance).decode()
        mac = _mac(self.keys[number], namespace, name, record)
        return with_digest(f'{record[:-1]},"key":{number},"mac":"{mac}"}}')

    def read(
        self, annotations: Mapping[str, str], namespace: str, name: str
    ) -> tuple[Issuance | None, Issuance | None]:
        """Return the record as (verified, unverified): one of the two is None, or both if it cannot be read."""
        issuance, text = read_issuance(annotations), annotations.get(ISSUANCE_ANNOTATION, "")
        signature = _SIGNATURE.search(text) if issuance else None
        key = self.keys.get(int(signature[1])) if signature else None
        if signature is None or key is None:
            return None, issuance
        record = text[: signature.start()] + "}"
        is_verified = hmac.compare_digest(signature[2], _mac(key, namespace, name, record))
        return (issuance, None) if is_verified else (None, issuance)


def _mac(key: bytes, namespace: str, name: str, record: str) -> str:
    # As a JSON list, so that no two combinations of values are signed as the same text.
    return hmac.new(key, msgspec.json.encode([namespace, name, record]), hashlib.sha256).hexdigest()
