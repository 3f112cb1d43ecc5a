"""Describes a Secret as text: who wrote it and what it contains, without any values."""

import base64
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from keyturn.api.base import InvalidSpecError
from keyturn.api.formats.base import ENV_KEYS
from keyturn.api.formats.registry import FORMATS, FormatSpec
from keyturn.api.times import human_duration, rfc3339
from keyturn.api.token_request import Request, parse
from keyturn.cli.kubectl.cluster import REQUESTS, Cluster, ClusterError
from keyturn.cli.kubectl.describe import absolute_and_relative, row
from keyturn.core.issuance import ISSUANCE_ANNOTATION, MANAGED_BY, Issuance, data_hash, read_issuance
from keyturn.core.token_family import TOKEN_FAMILY_ANNOTATION, Intent, TokenFamily, read_family, token_fingerprint


@dataclass(frozen=True, slots=True)
class SecretView:
    """A Secret and the TokenRequests in its namespace; `requests` is None if the user may not list them."""

    name: str
    namespace: str
    type: str
    # kubectl apply stores the whole Secret, including its values, in an annotation.
    annotations: Mapping[str, str] = field(repr=False)
    labels: Mapping[str, str]
    uid: str
    resource_version: str
    data: Mapping[str, bytes] = field(repr=False)
    requests: tuple[Request, ...] | None

    @property
    def issuance(self) -> Issuance | None:
        """The issuance record of a target; None if there is none or it cannot be read.

        Only the operator has the keys that verify it.
        """
        return read_issuance(self.annotations)

    @property
    def family(self) -> TokenFamily | None:
        """The token family of a token Secret."""
        return read_family(self.annotations.get(TOKEN_FAMILY_ANNOTATION, ""))

    @property
    def writer(self) -> Request | None:
        """The TokenRequest that has this Secret as its target."""
        return next((request for request in self.requests or () if request.secret_name == self.name), None)

    @property
    def readers(self) -> list[str]:
        """The names of the TokenRequests that have this Secret as a source or as their token Secret."""
        return [request.name for request in self.requests or () if self.name in request.spec.secrets_read]


def read_secret(cluster: Cluster, name: str) -> SecretView:
    """Read a Secret and the TokenRequests in its namespace. Raises ClusterError."""
    body = cluster.get("secret", name)
    meta = body["metadata"]
    return SecretView(
        name=name,
        namespace=meta["namespace"],
        type=body.get("type", ""),
        annotations=meta.get("annotations") or {},
        labels=meta.get("labels") or {},
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        data={key: base64.b64decode(value) for key, value in (body.get("data") or {}).items()},
        requests=_list_requests(cluster),
    )


def describe(view: SecretView, now: datetime) -> Iterator[str]:
    """Yield the lines that describe a Secret."""
    yield f"Secret {view.namespace}/{view.name} ({view.type})"
    issuance = view.issuance
    if view.family:
        yield from describe_family(view, view.family, now)
    elif issuance:
        yield from _describe_issuance(view, issuance, now)
    elif view.labels.get(MANAGED_BY) == "keyturn" or ISSUANCE_ANNOTATION in view.annotations:
        yield row("Written by", "Keyturn, but without a readable issuance record; Keyturn will reissue the Secret")
    else:
        yield row("Written by", "someone else; Keyturn does not modify it")
    if view.readers and not view.family:
        yield row("Read by", f"TokenRequest {', '.join(view.readers)}")
    if view.requests is None:
        yield row("Note", "TokenRequests that read this Secret are not shown: you may not list TokenRequests here")
    yield from _describe_keys(view)


def describe_family(view: SecretView, family: TokenFamily, now: datetime) -> Iterator[str]:
    """Yield the lines that describe the token family in a token Secret."""
    source, _, key = family.source_id.partition("/")
    yield row("Token of", f"Secret {source}, key {key}")
    yield row("Used by", f"TokenRequest {', '.join(view.readers)}" if view.readers else "no TokenRequest here")
    yield row(
        "Token family",
        f"{len(family.initial_tokens)} from the source, {len(family.consumed)} consumed (at most 100 each)",
    )
    yield row("Contains", _token_state(view, family, key))
    if family.expires:
        yield row("Token expires", absolute_and_relative(rfc3339(family.expires), now))
    yield row("Intent", _describe_intent(family.intent, now) if family.intent else "none: no renewal is in progress")


def _describe_intent(intent: Intent, now: datetime) -> str:
    age = human_duration(max(now - intent.start, timedelta()))
    if intent.final_attempt_after:
        moment = absolute_and_relative(rfc3339(intent.final_attempt_after), now)
        return f"{intent.holder} sent the token {age} ago and received no response; final attempt {moment}"
    final = "; this is the final attempt" if intent.final_attempt else ""
    return f"{intent.holder} started using the token {age} ago, for at most {intent.give_up_seconds}s{final}"


def _describe_issuance(view: SecretView, issuance: Issuance, now: datetime) -> Iterator[str]:
    yield row("Written by", f"TokenRequest {issuance.request}, {_owner_state(view, issuance)}")
    yield row("Record", "not verified here; only the operator has the issuance key")
    if view.writer:
        data = {key: view.data[key].decode(errors="replace") for key in issuance.keys if key in view.data}
        is_unchanged = data_hash(data, view.writer) == issuance.data_hash
        yield row("Data", "as issued" if is_unchanged else "edited; Keyturn will reissue it (DriftDetected)")
    if issuance.principal:
        yield row("Principal", issuance.principal)
    yield row("Issued", absolute_and_relative(rfc3339(issuance.issued), now))
    yield row("Expires", absolute_and_relative(rfc3339(issuance.expires), now))
    renewal = "never: the source credential is single-use"
    yield row("Renewal", renewal if issuance.once else absolute_and_relative(rfc3339(issuance.renew), now))
    yield row("Revision", str(issuance.revision))
    if issuance.source_expires:
        yield row("Source expires", absolute_and_relative(rfc3339(issuance.source_expires), now))


def _owner_state(view: SecretView, issuance: Issuance) -> str:
    if view.requests is None:
        return f"uid {issuance.uid}"
    owner = next((request for request in view.requests if request.name == issuance.request), None)
    if owner is None:
        return "which no longer exists; the Secret is not renewed"
    if owner.secret_name != view.name:
        return f"which now writes Secret {owner.secret_name}"
    return "which still exists" if owner.uid == issuance.uid else "which was recreated and takes over the Secret"


def _token_state(view: SecretView, family: TokenFamily, key: str) -> str:
    token = view.data.get(key, b"").decode(errors="replace")
    if not token:
        return "no token" if family.live else "no token: the single-use source credential has already been used"
    fingerprint = token_fingerprint(token, view.namespace, view.name)
    if fingerprint == family.live:
        return "the live token" + (", as it was in the source" if fingerprint in family.initial_tokens else "")
    if fingerprint in family.consumed:
        return "a consumed token (StaleTokenRestored)"
    return "a token that is newer than the recorded token family"


def _describe_keys(view: SecretView) -> Iterator[str]:
    # The defaults apply if the TokenRequest is unknown; its own formats take precedence.
    formats = {options.KEY: name for name, options in FORMATS.items()}
    formats |= {**dict.fromkeys(ENV_KEYS, "env"), "expiration": "the earliest expiration time"}
    members: Iterable[FormatSpec] = view.writer.spec.formats if view.writer else ()
    formats |= {key: member.name for member in members for key in member.options.keys}
    written = view.issuance.keys if view.issuance else ()
    yield "Keys"
    for key in sorted(view.data):
        note = formats.get(key, "") if key in written else "not managed by Keyturn" if view.issuance else ""
        yield f"  {key:<26}{len(view.data[key]):>7} B  {note}".rstrip()


def _list_requests(cluster: Cluster) -> tuple[Request, ...] | None:
    """Return the TokenRequests in the namespace that can be parsed; None if the user may not list them."""
    try:
        bodies = cluster.list_objects(REQUESTS)
    except ClusterError:
        return None
    requests = []
    for body in bodies:
        with suppress(InvalidSpecError):
            requests.append(parse(body))
    return tuple(requests)
