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

from keyturn.api.base import GROUP, ApiStruct, Name, Region, Rule
from keyturn.api.consumption import Consumption, consumption
from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.format_rules import PACKAGE_RULES
from keyturn.api.formats.registry import FormatSpec
from keyturn.api.rules import SHARED, SPEC_RULES, TARGET_RULE
from keyturn.api.source import SecretKeyRef, SourceSpec
from keyturn.api.status import Status
from keyturn.api.target import RenewalSpec, TargetSpec
from keyturn.core.errors import RefusedError

KIND = "TokenRequest"
PLURAL = "tokenrequests"
VERSION = "v1alpha1"
# Types of Secrets.
OPAQUE, DOCKER = "Opaque", "kubernetes.io/dockerconfigjson"
RENEW_REQUESTED = f"{GROUP}/renew-requested-at"
_LONGEST_ASKED = 128


class TokenRequestSpec(ApiStruct, frozen=True):
    """What is wanted: a source, the exchanges that lead from it to credentials, and the Secret to write."""

    source: Annotated[SourceSpec, Meta(description="What the first exchange starts from.")]
    exchanges: Annotated[
        tuple[StepSpec, ...], Meta(min_length=1, max_length=6, description="In order, one exchange each.")
    ]
    region: (
        Annotated[Region, Meta(description="AWS region of every exchange that names none, such as us-east-1.")] | None
    ) = None
    renewal: (
        Annotated[RenewalSpec, Meta(description="When to renew. Default: at two thirds of the real lifetime.")] | None
    ) = None
    target: Annotated[TargetSpec, Meta(description="The Secret. Default: named like the TokenRequest.")] | None = None
    suspend: (
        Annotated[bool, Meta(description="Stop renewing and healing. The Secret stays as it is. Default: false.")]
        | None
    ) = None

    # Not all in one: matching 8 templates of 16 KB once costs a quarter of what a rule may cost at most.
    TOGETHER: ClassVar[tuple[tuple[Rule, ...], ...]] = (SPEC_RULES, PACKAGE_RULES)
    SHARED: ClassVar[Mapping[str, str]] = SHARED
    RULES: ClassVar[tuple[Rule, ...]] = SPEC_RULES + PACKAGE_RULES

    @property
    def formats(self) -> tuple[FormatSpec, ...]:
        """The formats to write: those asked for, else the usual ones of the last value."""
        if self.target and self.target.formats:
            return self.target.formats
        given = self.exchanges[-1].exchange.PRODUCES
        return next(formats for kind, formats in FormatSpec.DEFAULTS.items() if kind in given)

    @property
    def secret_type(self) -> str:
        """The type that the Secret must have for its formats. No Secret's type can be changed."""
        return DOCKER if any(wanted.docker_config_json for wanted in self.formats) else OPAQUE

    @property
    def consumption(self) -> Consumption | None:
        """The step that uses up what it is given, if there is one."""
        return consumption(self.source, self.exchanges)

    @property
    def proof(self) -> SecretKeyRef | None:
        """Where a step is handed what works only once, such as an authorization code."""
        consumption = self.consumption
        return consumption.ref if consumption and consumption.step.proof else None

    @property
    def secrets_read(self) -> frozenset[str]:
        """The names of all Secrets that a renewal reads, and of the one that keeps a rotated token."""
        kept = {self.source.token.token_secret} - {""} if self.source.token else set()
        kept |= {self.consumption.secret} if self.consumption else set()
        own = {ref.name for exchange in self.exchanges for ref in exchange.exchange.references}
        return frozenset({*self.source.secrets, *kept, *own})


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """The part of Kubernetes' object metadata that is read."""

    name: Name
    namespace: Annotated[str, Meta(max_length=63)] = "default"
    uid: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    annotations: dict[str, str] = {}


class TokenRequest(ApiStruct, frozen=True):
    """Keeps a Secret filled with short-lived AWS credentials or tokens, renewed before they expire.

    Not the TokenRequest of core Kubernetes, which is the token subresource of a ServiceAccount.
    """

    metadata: Metadata
    spec: TokenRequestSpec
    api_version: Literal["keyturn.dev/v1alpha1"] = "keyturn.dev/v1alpha1"
    kind: Literal["TokenRequest"] = "TokenRequest"
    status: Status | None = None

    RULES: ClassVar[tuple[Rule, ...]] = (TARGET_RULE,)

    @property
    def secret_name(self) -> str:
        """The name of the Secret to write."""
        return (self.spec.target and self.spec.target.secret_name) or self.metadata.name


@dataclass(frozen=True, slots=True)
class Request:
    """A TokenRequest as the rest of the code sees it: parsed, named, hashed.

    `request_hash` covers what must be exchanged anew when it changes, `exchange_hash` the part of it that is
    sent (not formats and secretName), `metadata_hash` what only dresses the Secret or moves the next renewal.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    created_at: datetime | None
    renew_requested: str
    spec: TokenRequestSpec
    secret_name: str
    request_hash: str
    exchange_hash: str
    metadata_hash: str

    @property
    def retains(self) -> bool:
        """Whether the Secret outlives the TokenRequest."""
        return bool(self.spec.target) and self.spec.target.deletion_policy == "Retain"  # type: ignore[union-attr]


def parse(body: Mapping[str, Any]) -> Request:
    """Read a TokenRequest as the API server or a file gives it.

    Raises RefusedError (InvalidSpec) with one sentence that ends with the path of the field.
    """
    try:
        # Without the status: it is ours, a newer release may have told more, and nothing here depends on it.
        parsed = msgspec.convert({key: body[key] for key in body if key != "status"}, TokenRequest)
    except msgspec.ValidationError as error:
        raise RefusedError("InvalidSpec", with_path(str(error))) from None
    meta, spec = parsed.metadata, body["spec"]
    # A file may have a field without a value; the API server has dropped it.
    target = spec.get("target") or {}
    metadata_fields = {"renewal": spec.get("renewal"), "metadata": target.get("metadata"),
             "deletionPolicy": target.get("deletionPolicy")}  # fmt: skip
    return Request(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        generation=meta.generation,
        created_at=meta.creation_timestamp,
        renew_requested=renewal_asked(meta.annotations),
        spec=parsed.spec,
        secret_name=parsed.secret_name,
        request_hash=canonical_hash(_sent(spec) | _written(spec, parsed.secret_name)),
        exchange_hash=canonical_hash(_sent(spec)),
        metadata_hash=canonical_hash({key: value for key, value in metadata_fields.items() if value is not None}),
    )


def renewal_asked(annotations: Mapping[str, str]) -> str:
    """The value of the annotation that asks for a renewal, cut to what fits marks and status."""
    return annotations.get(RENEW_REQUESTED, "")[:_LONGEST_ASKED]


def canonical_hash(value: object) -> str:
    """`v1:` and 128 bits of SHA-256 over the JSON of `value` with sorted keys and no spaces."""
    return "v1:" + hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:32]


def _sent(spec: Mapping[str, Any]) -> dict[str, Any]:
    # The fields as the user wrote them, not as parsed: a release that adds a default changes no hash.
    return {key: spec[key] for key in ("source", "region", "exchanges") if key in spec}


def _written(spec: Mapping[str, Any], secret_name: str) -> dict[str, Any]:
    formats = (spec.get("target") or {}).get("formats")
    return {"secretName": secret_name} | ({"formats": formats} if formats else {})


def with_path(message: str) -> str:
    """Turn msgspec's "SAYS - at `$.spec.x`" into "SAYS (at spec.x)"."""
    # The name of an unknown field is the user's, and what is told is one line.
    plain = "".join(it if it.isprintable() else f"\\x{ord(it):02x}" for it in message)
    message, _, path = plain.partition(" - at `$")
    return f"{message} (at {path.rstrip('`').lstrip('.') or 'the manifest'})" if path else message
