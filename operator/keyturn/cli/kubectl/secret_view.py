"""A Secret as it is told to people: whose it is and what it holds, never a value."""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from keyturn.api.base import InvalidSpecError
from keyturn.api.formats.base import ENV_KEYS
from keyturn.api.formats.registry import FORMATS, FormatSpec
from keyturn.api.times import rfc3339
from keyturn.api.token_request import Request, parse
from keyturn.cli.kubectl.cluster import REQUESTS, Body, Cluster, ClusterError
from keyturn.cli.kubectl.describe import row
from keyturn.cli.kubectl.humanize import both, length
from keyturn.core.issuance import ISSUANCE_ANNOTATION, MANAGED_BY, Issuance, data_hash, read_issuance
from keyturn.core.token_family import TOKEN_FAMILY_ANNOTATION, TokenFamily, read_family, token_fingerprint


@dataclass(frozen=True, slots=True)
class Found:
    """A Secret, and the TokenRequests of its namespace, None where the user may not know them."""

    name: str
    namespace: str
    type: str
    # In one of them kubectl apply keeps the values.
    annotations: Mapping[str, str] = field(repr=False)
    labels: Mapping[str, str]
    uid: str
    version: str
    body: Mapping[str, bytes] = field(repr=False)
    requests: tuple[Request, ...] | None

    @property
    def issuance(self) -> Issuance | None:
        """Whose it is and when it was issued, where Keyturn wrote so and nobody edited it."""
        return read_issuance(self.annotations)

    @property
    def family(self) -> TokenFamily | None:
        """The lineage of a token Secret."""
        return read_family(self.annotations.get(TOKEN_FAMILY_ANNOTATION, ""))

    @property
    def writer(self) -> Request | None:
        """The TokenRequest that writes it."""
        return next((it for it in self.requests or () if it.secret_name == self.name), None)

    @property
    def readers(self) -> list[str]:
        """The TokenRequests that start from it, or keep a token in it."""
        return [it.name for it in self.requests or () if self.name in it.spec.secrets_read]


def find(cluster: Cluster, name: str) -> Found:
    """Read a Secret and who has to do with it; raises ClusterError."""
    body = cluster.get("secret", name)
    about = body["metadata"]
    return Found(
        name=name,
        namespace=about["namespace"],
        type=body.get("type", ""),
        annotations=about.get("annotations") or {},
        labels=about.get("labels") or {},
        uid=about["uid"],
        version=about["resourceVersion"],
        body={key: _decoded(value) for key, value in (body.get("data") or {}).items()},
        requests=_requests(cluster),
    )


def lines(found: Found, now: datetime) -> Iterator[str]:
    """Tell a Secret."""
    yield f"Secret {found.namespace}/{found.name} ({found.type})"
    issuance = found.issuance
    if found.family:
        yield from kept(found, found.family, now)
    elif issuance:
        yield from _written(found, issuance, now)
    elif found.labels.get(MANAGED_BY) == "keyturn" or ISSUANCE_ANNOTATION in found.annotations:
        yield row("Written by", "Keyturn, and its marks are gone or were edited: it is made anew at the next look")
    else:
        yield row("Written by", "somebody else: Keyturn does not touch it")
    if found.readers and not found.family:
        yield row("Read by", f"TokenRequest {', '.join(found.readers)}")
    if found.requests is None:
        yield row("Note", "TokenRequests may not be listed here: who reads it is not known")
    yield from _keys(found)


def kept(found: Found, family: TokenFamily, now: datetime) -> Iterator[str]:
    """Tell what a token Secret keeps."""
    source, _, key = family.source_id.partition("/")
    yield row("Keeps", f"the live token of Secret {source}, key {key}")
    yield row("Used by", f"TokenRequest {', '.join(found.readers)}" if found.readers else "no TokenRequest here")
    yield row(
        "Lineage",
        f"{len(family.initial_tokens)} handed in, {len(family.consumed)} spent (a hundred are remembered)",
    )
    yield row("Shows", _shown(found, family, key))
    yield row("Intent", _intent(family, now))


def _written(found: Found, issuance: Issuance, now: datetime) -> Iterator[str]:
    yield row("Written by", f"TokenRequest {issuance.request}, {_owner(found, issuance)}")
    if found.requests is not None and found.writer:
        yield row(
            "Data", "as issued" if _is_whole(found, issuance) else "edited since: it is made anew (DriftDetected)"
        )
    if issuance.principal:
        yield row("Principal", issuance.principal)
    yield row("Issued", both(rfc3339(issuance.issued), now))
    yield row("Expires", both(rfc3339(issuance.expires), now))
    yield row("Renews", "never: its source works once" if issuance.once else both(rfc3339(issuance.renew), now))
    yield row("Revision", str(issuance.revision))
    if issuance.source_expires:
        yield row("Source ends", both(rfc3339(issuance.source_expires), now))


def _owner(found: Found, issuance: Issuance) -> str:
    if found.requests is None:
        return f"uid {issuance.uid}"
    living = next((it for it in found.requests if it.name == issuance.request), None)
    if living is None:
        return "which is gone: nobody renews it"
    if living.secret_name != found.name:
        return f"which now writes Secret {living.secret_name}"
    return "which is there" if living.uid == issuance.uid else "which was made anew and takes it over"


def _is_whole(found: Found, issuance: Issuance) -> bool:
    texts = {key: found.body[key].decode(errors="replace") for key in issuance.keys if key in found.body}
    return found.writer is not None and data_hash(texts, found.writer) == issuance.data_hash


def _shown(found: Found, family: TokenFamily, key: str) -> str:
    value = found.body.get(key, b"").decode(errors="replace")
    if not value:
        return "nothing: what the user handed in worked once, and is used" if not family.live else "no token"
    mark = token_fingerprint(value, found.namespace, found.name)
    if mark == family.live:
        return "the live token" + (", as it was handed in" if mark in family.initial_tokens else "")
    return "a spent token (StaleTokenRestored)" if mark in family.consumed else "a token younger than its lineage"


def _intent(family: TokenFamily, now: datetime) -> str:
    intent = family.intent
    if intent is None:
        return "none: nobody is spending the token"
    since = length(max(now - intent.start, timedelta()))
    tried = "; tried once more, carefully" if intent.final_attempt else ""
    return f"{intent.holder} began to spend the token {since} ago, for {intent.give_up_seconds} s at most{tried}"


def _keys(found: Found) -> Iterator[str]:
    yield "Keys"
    formats, written = _formats(found), found.issuance.keys if found.issuance else ()
    for key in sorted(found.body):
        what = formats.get(key, "") if key in written else "not Keyturn's" if found.issuance else ""
        yield f"  {key:<26}{len(found.body[key]):>7} B  {what}".rstrip()


def _formats(found: Found) -> dict[str, str]:
    """By key, the format that it is of: as the TokenRequest says, else as by default."""
    usual = {options.KEY: name for name, options in FORMATS.items()}
    wanted: Iterable[FormatSpec] = found.writer.spec.formats if found.writer else ()
    return {**usual, **dict.fromkeys(ENV_KEYS, "env"), "expiration": "when the first of it expires",
            **{key: one.name for one in wanted for key in one.options.keys}}  # fmt: skip


def _requests(cluster: Cluster) -> tuple[Request, ...] | None:
    try:
        return tuple(_parsed(cluster.find(REQUESTS)))
    except ClusterError:
        return None


def _parsed(bodies: list[Body]) -> Iterator[Request]:
    for body in bodies:
        try:
            yield parse(body)
        except InvalidSpecError:
            continue


def _decoded(value: Any) -> bytes:
    try:
        return base64.b64decode(value)
    except binascii.Error:
        return b""
