"""The marks: what decides about a Secret, written with its data in one annotation."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from keyturn.api.base import GROUP
from keyturn.api.times import Moment
from keyturn.api.token_request import Request, canonical_hash
from keyturn.core.pipeline_values import SourceValues, Superseded

ISSUANCE_ANNOTATION = f"{GROUP}/issuance"
EXPIRES_AT = f"{GROUP}/expires-at"
ADOPTABLE_BY = f"{GROUP}/adoptable-by"
OWNER_UID = f"{GROUP}/owner-uid"
MANAGED_BY = "app.kubernetes.io/managed-by"
OUR_LABEL = f"{MANAGED_BY}=keyturn"
LONGEST_LIFE = timedelta(days=20 * 366)
_END_OF_TIME = 9000  # sums with later years overflow


class Issuance(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What was issued, for whom, from what. `spread` in [0, 1) is the jitter, drawn once per issue.

    `source` is the fingerprint of the source, `source_warns` the time from which its end is told. `keys` are those
    of the data. `adopted` stays true when the consent is taken back. `once`: nothing is left to renew with.
    `token_id` and `superseded` are License Manager's names of the token that is held and of those before it.
    `identity_id` is Cognito's, asked for once. A digest over all of them, and so over the data by their hash, goes
    with them: marks that were edited by hand do not count.
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
    revision: Annotated[int, Meta(ge=0, le=2**53)]
    keys: tuple[str, ...]
    handled_renew_request: str = ""
    principal: str = ""
    source_expires: Moment | None = None
    source_warns: Moment | None = None
    adopted: bool = False
    once: bool = False
    token_id: str = ""
    superseded: tuple[Superseded, ...] = ()
    identity_id: str = ""

    def encoded(self) -> str:
        """The annotation's value."""
        text = msgspec.json.encode(self).decode()
        return f'{text[:-1]},"digest":"{_digest(text)}"}}'


@dataclass(frozen=True, slots=True)
class TargetSecret:
    """A Secret at the target's name, as far as it was read.

    `marks` is None where there are none or their digest is wrong. `owners` are the uids of owner references,
    `managers` the field managers of ours. `touched` is whether the metadata shows that anybody else has had a
    hand in our keys. `data_hash` (of our keys), `immutable` and `type` are known after a full read only.
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


def field_manager(uid: str) -> str:
    """The name under which a request applies its Secret: nobody else's fields are ours by accident."""
    return f"keyturn-{uid[:8]}"


def labels(request: Request) -> dict[str, str]:
    """The labels of the target: ours, by which it is found, and those of the spec."""
    return {MANAGED_BY: "keyturn", OWNER_UID: request.uid, **_metadata(request, "labels")}


def annotations(request: Request) -> dict[str, str]:
    """The annotations that the spec asks for."""
    return _metadata(request, "annotations")


def consents(request: Request, found: TargetSecret | None) -> bool:
    """Whether a Secret of somebody else says that this request may take it."""
    return found is not None and found.annotations.get(ADOPTABLE_BY) == request.name


def is_adopted(request: Request, found: TargetSecret | None) -> bool:
    """Whether somebody else made this Secret and gave it to the request: it must not go when the request goes."""
    return consents(request, found) or bool(found and found.issuance and found.issuance.adopted)


def read_issuance(annotations: Mapping[str, str]) -> Issuance | None:
    """Read the marks from a Secret's annotations; None where there are none that count.

    The digest is over the text and not over what is known of it: marks of a newer release, with a field more,
    still count.
    """
    text, _, digest = annotations.get(ISSUANCE_ANNOTATION, "").rpartition(',"digest":"')
    if digest != _digest(text + "}") + '"}':
        return None
    try:
        issuance = msgspec.json.decode(text + "}", type=Issuance)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return None
    # The digest has no key: whoever may write the Secret can forge marks, and must not get further than that.
    sane = issuance.issued <= issuance.renew <= issuance.expires <= issuance.issued + LONGEST_LIFE
    return issuance if sane and issuance.expires.year < _END_OF_TIME else None


def data_hash(data: Mapping[str, str], request: Request) -> str:
    """Hash a Secret's data, keyed with the request's name: equal data of two requests do not look equal."""
    return canonical_hash({key: fingerprint(value, request) for key, value in data.items()})


def fingerprint(value: str, request: Request) -> str:
    """64 bits that tell a change of `value` and too little to find it: keyed, and cut short.

    The key is the request's name and not its uid, so that it is the same after a restore or a re-creation.
    """
    key = f"{request.namespace}/{request.name}".encode()
    return hmac.new(key, value.encode(), hashlib.sha256).hexdigest()[:16]


def source_fingerprint(source: SourceValues, request: Request) -> str:
    """The fingerprint of all that the source gave."""
    keys = source.credentials
    values = [
        source.token or "",
        *((keys.access_key_id, keys.secret_access_key, keys.session_token or "") if keys else ()),
    ]
    return fingerprint("\n".join(values), request)


def unchanged(ours: str, theirs: str) -> bool:
    """Compare two hashes; one of an unknown version counts as unchanged, so that a downgrade renews nothing."""
    return ours == theirs or ours.partition(":")[0] != theirs.partition(":")[0]


def kept_identity(last: Issuance | None, request: Request) -> str:
    """Cognito's identity of the last issue: without it each renewal would ask for it again."""
    return last.identity_id if last and unchanged(last.exchange_hash, request.exchange_hash) else ""


def is_ours(request: Request, found: TargetSecret) -> bool:
    """Whether the request may write this Secret.

    Marks with our name and another uid are those of a request that is gone: no two living ones have the same
    name. So delete and create, a restore or a move to another cluster take their Secret over.
    """
    if found.issuance:
        return found.issuance.request == request.name
    uid = request.uid
    traces = found.labels.get(OWNER_UID) == uid or uid in found.owners or field_manager(uid) in found.managers
    return traces or consents(request, found)


def has_current_metadata(request: Request, found: TargetSecret) -> bool:
    """Whether labels, annotations and owner are as the spec wants them."""
    owned = not request.retains and not is_adopted(request, found)
    return (
        labels(request).items() <= found.labels.items()
        and annotations(request).items() <= found.annotations.items()
        and (request.uid in found.owners) == owned
    )


def _metadata(request: Request, kind: str) -> dict[str, str]:
    target = request.spec.target
    given: Mapping[str, str] | None = getattr(target.metadata, kind) if target and target.metadata else None
    return dict(given or {})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
