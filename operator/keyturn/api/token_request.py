"""The API: TokenRequest v1alpha1. The CRD is generated from these types.

The API server validates a manifest with the CRD, Python with the types. Both apply the same patterns, limits and rules,
because botocore checks neither maximums nor patterns nor enums.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec
from msgspec import Meta

from keyturn.api.base import GROUP, ApiStruct, InvalidSpecError, Name, Region, Rule, member_in_cel
from keyturn.api.exchanges.base import ExchangeSpec
from keyturn.api.exchanges.registry import EXCHANGES, StepSpec
from keyturn.api.formats.registry import DEFAULT_FORMATS, FORMATS, FormatSpec
from keyturn.api.rules.consumption import CONSUMPTION_RULES
from keyturn.api.rules.exchanges import AMBIENT_RULES, ASSERTION_TOKEN_RULE, ID_TOKEN_RULE, ROLE_RULES, VALUE_RULES
from keyturn.api.rules.formats import FORMAT_RULES, PACKAGE_RULES, TEMPLATE_RULES
from keyturn.api.rules.target import RENEWAL_RULE, TARGET_RULE
from keyturn.api.source import SecretKeyRef, SourceSpec, ValueRef
from keyturn.api.status import MAX_RENEW_REQUEST_LENGTH, Status
from keyturn.api.target import RenewalSpec, TargetSpec
from keyturn.api.times import Moment
from keyturn.api.validation import check_spec_bytes, spec_bytes, validation_message

KIND = "TokenRequest"
PLURAL = "tokenrequests"
SHORT_NAME = "treq"
VERSION = "v1alpha1"
# Secret types.
OPAQUE, DOCKER, DOCKER_LEGACY = "Opaque", "kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg"
# The key that the API server requires in a Secret of each of these types; its value must be a JSON object.
JSON_KEYS = {DOCKER: ".dockerconfigjson", DOCKER_LEGACY: ".dockercfg"}
RENEW_REQUESTED = f"{GROUP}/renew-requested-at"


class Consumption(NamedTuple):
    """The exchange that consumes its input: a refresh token or a single-use credential.

    `ref` is where the user stores that input, `secret` the token Secret, where Keyturn stores the token from the
    response. `is_single_use`: the response need not contain a replacement.
    """

    exchange: ExchangeSpec
    ref: SecretKeyRef
    secret: str
    is_single_use: bool

    @property
    def source_id(self) -> str:
        """Identifies the tokens that may replace each other: the source key and, for single-use input, the recipient.

        An assertion may be sent to several recipients; a refresh token that one of them returned must not be.
        """
        source = f"{self.ref.name}/{self.ref.key}"
        if not (self.is_single_use and self.exchange.recipient):
            return source
        return f"{source} {hashlib.sha256(self.exchange.recipient.encode()).hexdigest()[:16]}"


class TokenRequestSpec(ApiStruct, frozen=True, kw_only=True):
    """The pipeline: a source, the exchanges that turn it into short-lived credentials, and the Secret to write."""

    source: Annotated[
        SourceSpec,
        Meta(
            description="The long-lived source credential. Omit it if the first exchange uses only its own client"
            " credentials."
        ),
    ] = SourceSpec()
    exchanges: Annotated[tuple[StepSpec, ...], Meta(min_length=1, max_length=6, description="The exchanges, in order.")]
    region: (
        Annotated[Region, Meta(description="AWS region of the exchanges that do not set their own, such as us-east-1.")]
        | None
    ) = None
    renewal: (
        Annotated[RenewalSpec, Meta(description="When to renew. Default: after two thirds of the actual lifetime.")]
        | None
    ) = None
    target: (
        Annotated[TargetSpec, Meta(description="The Secret to write. Default: one with the name of the TokenRequest.")]
        | None
    ) = None
    suspend: (
        Annotated[
            bool,
            Meta(
                description="Whether to stop renewals and drift correction. The Secret is left"
                " unchanged. Default: false."
            ),
        ]
        | None
    ) = None

    # Two groups, because matching 8 templates of 16 KB takes a quarter of the API server's cost limit for one rule.
    RULE_GROUPS: ClassVar[tuple[tuple[Rule, ...], ...]] = (
        (
            *AMBIENT_RULES,
            *VALUE_RULES,
            *FORMAT_RULES,
            *ROLE_RULES,
            *CONSUMPTION_RULES,
            ID_TOKEN_RULE,
            ASSERTION_TOKEN_RULE,
            RENEWAL_RULE,
        ),
        (*PACKAGE_RULES, *TEMPLATE_RULES),
    )
    RULES: ClassVar[tuple[Rule, ...]] = RULE_GROUPS[0] + RULE_GROUPS[1]
    CEL_VARIABLES: ClassVar[Mapping[str, str]] = {
        "steps": f"self.exchanges.map(x, {member_in_cel(EXCHANGES, 'x')})",
        "formats": f"""
            has(self.target) && has(self.target.formats)
                ? self.target.formats.map(f, {member_in_cel(FORMATS, "f")}) : []
        """,
    }

    @property
    def formats(self) -> tuple[FormatSpec, ...]:
        """The formats to write, with the default applied."""
        if self.target and self.target.formats:
            return self.target.formats
        produced = self.exchanges[-1].exchange.PRODUCES
        return next(formats for kind, formats in DEFAULT_FORMATS.items() if kind in produced)

    @property
    def secret_type(self) -> str:
        """The type of the Secret that the formats require. The type of an existing Secret cannot be changed.

        Only logins require a type, because kubelets ignore them in a Secret of another type. Programs find other keys,
        such as tls.crt, in a Secret of any type, and types for those keys require keys that the formats may not write.
        """
        keys = {choice.options.keys[0] for choice in self.formats if choice.docker_config_json or choice.template}
        return next((kind for kind, key in JSON_KEYS.items() if key in keys), OPAQUE)

    @property
    def consumption(self) -> Consumption | None:
        """The exchange that consumes its input, if there is one. The rules of the API allow at most one."""
        exchanges = [step.exchange for step in self.exchanges]
        for exchange in exchanges:
            if exchange.single_use_credential:
                ref = exchange.single_use_credential.secret_key_ref
                return Consumption(exchange, ref, f"{ref.name}-keyturn", is_single_use=True)
        # A ServiceAccount token may be consumed: each renewal requests a new one.
        token = self.source.token
        if token is None or token.secret_key_ref is None:
            return None
        is_source_read = True
        for exchange in exchanges:
            # A refresh grant always reads the source token.
            if exchange.is_refresh_grant or (exchange.is_token_single_use and is_source_read):
                is_single_use = not exchange.is_refresh_grant
                return Consumption(exchange, token.secret_key_ref, token.token_secret, is_single_use=is_single_use)
            is_source_read = is_source_read and "token" not in exchange.PRODUCES
        return None

    @property
    def single_use_ref(self) -> SecretKeyRef | None:
        """The Secret key of a single-use credential that is not the source, such as an authorization code."""
        consumption = self.consumption
        return consumption.ref if consumption and consumption.exchange.single_use_credential else None

    @property
    def exchange_references(self) -> tuple[ValueRef, ...]:
        """The keys of Secrets and ConfigMaps that the exchanges' own fields refer to."""
        values = [value for step in self.exchanges for value in msgspec.structs.astuple(step.exchange)]
        names = ("secret_key_ref", "config_map_key_ref")
        return tuple(ref for value in values for name in names if (ref := getattr(value, name, None)))

    @property
    def secrets_read(self) -> frozenset[str]:
        """The names of all Secrets that a renewal reads, and of the token Secret."""
        token_secrets = {self.source.token.token_secret} - {""} if self.source.token else set()
        token_secrets |= {self.consumption.secret} if self.consumption else set()
        exchange_secrets = {ref.name for step in self.exchanges for ref in step.exchange.references}
        return frozenset({*self.source.secrets, *token_secrets, *exchange_secrets})


class Metadata(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The fields of Kubernetes' ObjectMeta that Keyturn reads."""

    name: Name
    namespace: Annotated[str, Meta(max_length=63)] = "default"
    uid: str = ""
    generation: int = 0
    creation_timestamp: Moment | None = None
    annotations: dict[str, str] = {}


class TokenRequest(ApiStruct, frozen=True):
    """Keeps short-lived AWS credentials or tokens in a Secret and renews them before they expire.

    Not to be confused with the TokenRequest API of core Kubernetes, which issues ServiceAccount tokens.
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
    """A parsed TokenRequest, with its hashes.

    `request_hash` covers the fields whose change requires a renewal, `exchange_hash` the subset that affects the
    exchanges (not formats and secretName), `metadata_hash` the fields whose change only updates the metadata of the
    Secret or the time of the next renewal.
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
    def namespaced_name(self) -> str:
        """Namespace and name, as logs name the request."""
        return f"{self.namespace}/{self.name}"

    @property
    def should_retain_secret(self) -> bool:
        """Whether the Secret outlives the TokenRequest."""
        return bool(self.spec.target) and self.spec.target.deletion_policy == "Retain"  # type: ignore[union-attr]


def parse(body: Mapping[str, Any]) -> Request:
    """Parse a TokenRequest from the API server or a file. Raise InvalidSpecError if it breaks the schema or a rule."""
    try:
        return _parse(body)
    except msgspec.ValidationError as error:
        raise InvalidSpecError(validation_message(error, TokenRequest)) from None
    except UnicodeEncodeError:
        raise InvalidSpecError("the manifest contains half of a Unicode surrogate pair") from None


def _parse(body: Mapping[str, Any]) -> Request:
    # Nothing here depends on the status, and a newer release may have written fields that this one does not know.
    parsed = msgspec.convert({key: body[key] for key in body if key != "status"}, TokenRequest)
    check_spec_bytes(spec_bytes(body["spec"]))
    meta, spec = parsed.metadata, body["spec"]
    # In a file a field may be null; the API server drops such fields.
    target = spec.get("target") or {}
    metadata_fields = {"renewal": spec.get("renewal"), "metadata": target.get("metadata"),
             "deletionPolicy": target.get("deletionPolicy")}  # fmt: skip
    # The fields as the user wrote them, not as parsed: a release that adds a default must not change hashes.
    exchange_fields = {key: spec[key] for key in ("source", "region", "exchanges") if key in spec}
    if "source" in exchange_fields:
        exchange_fields["source"] = _without_token_metadata(spec["source"])
    target_fields = {"secretName": parsed.secret_name}
    if target.get("formats"):
        target_fields["formats"] = target["formats"]
    requested = renew_requested(meta.annotations)
    # Raises UnicodeEncodeError, as hashing the other fields does: the record and the status contain these three.
    f"{meta.namespace}{meta.uid}{requested}".encode()
    return Request(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        generation=meta.generation,
        created_at=meta.creation_timestamp,
        renew_requested=requested,
        spec=parsed.spec,
        secret_name=parsed.secret_name,
        request_hash=canonical_hash(exchange_fields | target_fields),
        exchange_hash=canonical_hash(exchange_fields),
        metadata_hash=canonical_hash({key: value for key, value in metadata_fields.items() if value is not None}),
    )


def _without_token_metadata(source: dict[str, Any]) -> dict[str, Any]:
    """Return the source without the metadata of the token Secret: a change of a label must not consume a token."""
    token = source.get("token") or {}
    save_to = token.get("saveTo") or {}
    if "metadata" not in save_to:
        return source
    return source | {"token": token | {"saveTo": {key: save_to[key] for key in save_to if key != "metadata"}}}


def renew_requested(annotations: object) -> str:
    """Return the value of the annotation that requests a renewal, truncated for the issuance record and the status."""
    value = annotations.get(RENEW_REQUESTED) if isinstance(annotations, Mapping) else None
    return value[:MAX_RENEW_REQUEST_LENGTH] if isinstance(value, str) else ""


def canonical_hash(value: object) -> str:
    """Return `v1:` and 128 bits of SHA-256 of the JSON of `value`, with sorted keys and no spaces."""
    return "v1:" + hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:32]
