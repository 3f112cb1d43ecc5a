"""The API: what a TokenRequest may say. The CRD is written from these types.

The API server checks a manifest by the CRD, Python checks it by the types themselves; both apply the same
patterns, limits and rules, because botocore checks neither maximum nor pattern nor enum.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from keyturn.core.errors import RefusedError
from keyturn.core.model.exchanges import Exchange
from keyturn.core.model.part import GROUP, Name, Part, Region, Rule
from keyturn.core.model.source import Source
from keyturn.core.model.status import Condition, Status
from keyturn.core.model.target import CREDENTIAL_FORMATS, Format, Renewal, Target

__all__ = [
    "GROUP", "KIND", "PLURAL", "RENEW_REQUESTED", "VERSION", "Condition", "Exchange", "Format", "Renewal",
    "Request", "Source", "Spec", "Status", "Target", "TokenRequest", "canonical_hash", "parse",
]  # fmt: skip

KIND = "TokenRequest"
PLURAL = "tokenrequests"
VERSION = "v1alpha1"
RENEW_REQUESTED = f"{GROUP}/renew-requested-at"
DEFAULT_DURATION_SECONDS = 3600

_FORMAT_NEEDS_CREDENTIALS = " || ".join(f"has(f.{name})" for name in CREDENTIAL_FORMATS)


class Spec(Part, frozen=True):
    """What is wanted: a source, the exchanges that lead from it to credentials, and the Secret to write."""

    source: Annotated[Source, Meta(description="What the first exchange starts from.")]
    exchanges: Annotated[
        tuple[Exchange, ...], Meta(min_length=1, max_length=6, description="In order, one operation each.")
    ]
    region: (
        Annotated[Region, Meta(description="AWS region of every exchange that names none, such as us-east-1.")]
        | None
    ) = None
    renewal: (
        Annotated[Renewal, Meta(description="When to renew. Default: at two thirds of the real lifetime.")] | None
    ) = None
    target: Annotated[Target, Meta(description="The Secret. Default: named like the TokenRequest.")] | None = None
    suspend: (
        Annotated[bool, Meta(description="Stop renewing and healing. The Secret stays as it is. Default: false.")]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            says="region is missing: give spec.region, or a region to each exchange",
            cel="has(self.region) || self.exchanges.all(x, "
            "has(x.licenseManagerGetAccessToken) ? has(x.licenseManagerGetAccessToken.region) : "
            "has(x.assumeRoleWithWebIdentity) && has(x.assumeRoleWithWebIdentity.region))",
            holds=lambda spec: bool(spec.region) or all(e.operation.region for e in spec.exchanges),
        ),
        Rule(
            says="a format that holds credentials needs an exchange that gives them (assumeRoleWithWebIdentity)",
            cel="self.exchanges.exists(x, has(x.assumeRoleWithWebIdentity)) || !has(self.target) || "
            f"!has(self.target.formats) || !self.target.formats.exists(f, {_FORMAT_NEEDS_CREDENTIALS})",
            holds=lambda spec: (
                spec.gives_credentials or not any(f.name in CREDENTIAL_FORMATS for f in spec.formats)
            ),
        ),
        Rule(
            says="renewal.renewBefore must be shorter than the durationSeconds (default 3600) of the role",
            cel="!has(self.renewal) || !has(self.renewal.renewBefore) || self.exchanges.all(x, "
            "!has(x.assumeRoleWithWebIdentity) || duration(self.renewal.renewBefore).getSeconds()"
            f" < x.assumeRoleWithWebIdentity.?durationSeconds.orValue({DEFAULT_DURATION_SECONDS}))",
            holds=lambda spec: _renews_within_duration(spec),  # noqa: PLW0108 - it is defined below
        ),
    )

    @property
    def gives_credentials(self) -> bool:
        """Whether the exchanges end with AWS credentials, not only with a token."""
        return any(e.assume_role_with_web_identity for e in self.exchanges)

    @property
    def formats(self) -> tuple[Format, ...]:
        """The formats to write: those asked for, else the usual ones of the last value."""
        if self.target and self.target.formats:
            return self.target.formats
        return Format.DEFAULTS["credentials" if self.gives_credentials else "token"]


def _renews_within_duration(spec: Spec) -> bool:
    if not (spec.renewal and spec.renewal.before):
        return True
    seconds = spec.renewal.before.total_seconds()
    roles = [e.assume_role_with_web_identity for e in spec.exchanges if e.assume_role_with_web_identity]
    return all(seconds < (role.duration_seconds or DEFAULT_DURATION_SECONDS) for role in roles)


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """The part of Kubernetes' object metadata that is read."""

    name: Name
    namespace: Annotated[str, Meta(max_length=63)] = "default"
    uid: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    annotations: dict[str, str] = {}


class TokenRequest(Part, frozen=True):
    """Keeps a Secret filled with short-lived AWS credentials or tokens, renewed before they expire.

    Not the TokenRequest of core Kubernetes, which is the token subresource of a ServiceAccount.
    """

    metadata: Metadata
    spec: Spec
    api_version: Literal["keyturn.dev/v1alpha1"] = "keyturn.dev/v1alpha1"
    kind: Literal["TokenRequest"] = "TokenRequest"
    status: Status | None = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            says="the target Secret must not be the Secret that the source is read from",
            cel="self.spec.source.token.secretKeyRef.name"
            " != self.spec.?target.?secretName.orValue(self.metadata.name)",
            holds=lambda it: it.spec.source.token.secret_key_ref.name != it.secret_name,
        ),
    )

    @property
    def secret_name(self) -> str:
        """The name of the Secret to write."""
        return (self.spec.target and self.spec.target.secret_name) or self.metadata.name


@dataclass(frozen=True, slots=True)
class Request:
    """A TokenRequest as the rest of the code sees it: parsed, named, hashed.

    `request_hash` covers what must be exchanged anew when it changes, `dress_hash` what only dresses the
    Secret or moves the next renewal: metadata, deletionPolicy, renewal.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    created_at: datetime | None
    renew_requested: str
    spec: Spec
    secret_name: str
    request_hash: str
    dress_hash: str

    @property
    def retains(self) -> bool:
        """Whether the Secret outlives the TokenRequest."""
        return bool(self.spec.target) and self.spec.target.deletion_policy == "Retain"  # type: ignore[union-attr]


def parse(body: Mapping[str, Any]) -> Request:
    """Read a TokenRequest as the API server or a file gives it.

    Raises RefusedError (SpecInvalid) with one sentence that ends with the path of the field.
    """
    try:
        parsed = msgspec.convert(body, TokenRequest)
    except msgspec.ValidationError as error:
        raise RefusedError("SpecInvalid", _with_path(str(error))) from None
    meta, spec = parsed.metadata, body["spec"]
    dress = {"renewal": spec.get("renewal"), "metadata": spec.get("target", {}).get("metadata"),
             "deletionPolicy": spec.get("target", {}).get("deletionPolicy")}  # fmt: skip
    return Request(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        generation=meta.generation,
        created_at=meta.creation_timestamp,
        renew_requested=meta.annotations.get(RENEW_REQUESTED, ""),
        spec=parsed.spec,
        secret_name=parsed.secret_name,
        request_hash=canonical_hash(_what_is_exchanged(spec, parsed.secret_name)),
        dress_hash=canonical_hash({key: value for key, value in dress.items() if value is not None}),
    )


def canonical_hash(value: object) -> str:
    """`v1:` and 128 bits of SHA-256 over the JSON of `value` with sorted keys and no spaces."""
    return "v1:" + hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:32]


def _what_is_exchanged(spec: Mapping[str, Any], secret_name: str) -> dict[str, Any]:
    # The fields as the user wrote them, not as parsed: a release that adds a default changes no hash.
    kept: dict[str, Any] = {key: spec[key] for key in ("source", "region", "exchanges") if key in spec}
    formats = spec.get("target", {}).get("formats")
    return kept | {"secretName": secret_name} | ({"formats": formats} if formats else {})


def _with_path(message: str) -> str:
    """Turn msgspec's "SAYS - at `$.spec.x`" into "SAYS (at spec.x)"."""
    says, _, path = message.partition(" - at `$")
    return f"{says} (at {path.rstrip('`').lstrip('.') or 'the manifest'})" if path else says
