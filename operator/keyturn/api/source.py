"""The source of a pipeline."""

from typing import Annotated, ClassVar

from msgspec import Meta

from keyturn.api.base import GROUP, ApiStruct, ConsumedSecretName, Key, Name, Rule, exactly_one_of, matching
from keyturn.api.metadata import SecretMetadata

# A change of a Secret with this label is detected at once.
SOURCE_LABEL = (f"{GROUP}/source", "true")


class SecretKeyRef(ApiStruct, frozen=True):
    """A key of a Secret in the namespace of the TokenRequest."""

    name: Annotated[Name, Meta(description="Name of the Secret.")]
    key: Annotated[Key, Meta(description="Key in the data of the Secret.")]

    @property
    def description(self) -> str:
        """The reference in the form that messages use."""
        return f"key {self.key} of Secret {self.name}"


class SecretRef(ApiStruct, frozen=True):
    """A Secret in the namespace of the TokenRequest."""

    name: Annotated[Name, Meta(description="Name of the Secret.")]


class SecretValue(ApiStruct, frozen=True):
    """A value that is too sensitive for a manifest."""

    secret_key_ref: Annotated[SecretKeyRef, Meta(description="Secret key to read the value from, at each renewal.")]


class SingleUseKeyRef(SecretKeyRef, frozen=True):
    """A key of a Secret whose value is consumed."""

    name: Annotated[ConsumedSecretName, Meta(description="Name of the Secret.")]


class SingleUseValue(SecretValue, frozen=True):
    """A value that is too sensitive for a manifest, and that can be used once."""

    secret_key_ref: Annotated[SingleUseKeyRef, Meta(description="Secret key to read the value from, at each renewal.")]


class ConfigMapKeyRef(ApiStruct, frozen=True):
    """A key of a ConfigMap in the namespace of the TokenRequest."""

    name: Annotated[Name, Meta(description="Name of the ConfigMap.")]
    key: Annotated[Key, Meta(description="Key in the data of the ConfigMap.")]


ValueRef = SecretKeyRef | ConfigMapKeyRef


class BundleValue(ApiStruct, frozen=True):
    """A value from a Secret or a ConfigMap. Set exactly one field."""

    secret_key_ref: Annotated[SecretKeyRef, Meta(description="Secret key to read the value from.")] | None = None
    config_map_key_ref: Annotated[ConfigMapKeyRef, Meta(description="ConfigMap key to read the value from.")] | None = (
        None
    )

    RULES: ClassVar[tuple[Rule, ...]] = (exactly_one_of("secretKeyRef", "configMapKeyRef"),)

    @property
    def ref(self) -> SecretKeyRef | ConfigMapKeyRef | None:
        """The reference that is set."""
        return self.secret_key_ref or self.config_map_key_ref


class SaveTo(ApiStruct, frozen=True):
    """The token Secret, which stores refresh tokens that the issuer rotates."""

    secret_name: Annotated[Name, Meta(description="Name of the token Secret. Keyturn creates it.")]
    metadata: (
        Annotated[
            SecretMetadata,
            Meta(
                description="Labels and annotations to add to the token Secret when Keyturn writes it. Existing ones"
                " are not changed."
            ),
        ]
        | None
    ) = None


Audience = Annotated[
    str, matching(r"^[!-~]+\Z", "printable ASCII characters without spaces", min_length=1, max_length=1024)
]


class ServiceAccountTokenSpec(ApiStruct, frozen=True):
    """A token of a ServiceAccount in the namespace of the TokenRequest. Each renewal requests a new one."""

    name: Annotated[Name, Meta(description="Name of the ServiceAccount.")]
    audiences: (
        Annotated[
            tuple[Audience, ...],
            Meta(
                min_length=1,
                max_length=4,
                description="Audiences of the token. The operator's settings must allow them. Default:"
                " sts.amazonaws.com.",
            ),
        ]
        | None
    ) = None
    expiration_seconds: (
        Annotated[
            int,
            Meta(ge=600, le=86400, description="Lifetime of the token in seconds. Default: 3600."),
        ]
        | None
    ) = None


class TokenSourceSpec(ApiStruct, frozen=True):
    """A long-lived token from a Secret, or a token of a ServiceAccount. Set secretKeyRef or serviceAccount.

    White space and quotes around a token from a Secret are removed.
    """

    secret_key_ref: (
        Annotated[SecretKeyRef, Meta(description="Secret key to read the token from, at each renewal.")] | None
    ) = None
    service_account: ServiceAccountTokenSpec | None = None
    save_to: (
        Annotated[
            SaveTo,
            Meta(
                description="Where to store refresh tokens that the issuer rotates. Default: the Secret"
                " <name of the source Secret>-keyturn."
            ),
        ]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="exactly one of secretKeyRef, serviceAccount must be set",
            cel="has(self.secretKeyRef) != has(self.serviceAccount)",
            is_met_by=lambda token: (token.secret_key_ref is None) != (token.service_account is None),
        ),
        Rule(
            message="saveTo requires secretKeyRef",
            cel="!has(self.saveTo) || has(self.secretKeyRef)",
            is_met_by=lambda token: token.save_to is None or token.secret_key_ref is not None,
        ),
        Rule(
            message="saveTo.secretName must not be the source Secret: Keyturn never writes a Secret that it did not"
            " create",
            cel="!has(self.saveTo) || !has(self.secretKeyRef) || self.saveTo.secretName != self.secretKeyRef.name",
            is_met_by=lambda token: (
                not (token.save_to and token.secret_key_ref and token.save_to.secret_name == token.secret_key_ref.name)
            ),
        ),
    )

    @property
    def token_secret(self) -> str:
        """The name of the token Secret, empty for a ServiceAccount token, which is never stored."""
        if self.secret_key_ref is None:
            return ""
        return self.save_to.secret_name if self.save_to else f"{self.secret_key_ref.name}-keyturn"


class AmbientSpec(ApiStruct, frozen=True):
    """The operator's own AWS identity. The operator's settings list which namespaces may assume which roles with it."""


class CredentialSourceSpec(ApiStruct, frozen=True):
    """AWS credentials from a Secret, or the operator's own. Set exactly one field."""

    secret_ref: (
        Annotated[
            SecretRef,
            Meta(
                description="Secret with the keys AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for temporary"
                " credentials, AWS_SESSION_TOKEN."
            ),
        ]
        | None
    ) = None
    ambient: AmbientSpec | None = None

    RULES: ClassVar[tuple[Rule, ...]] = (exactly_one_of("secretRef", "ambient"),)


class SourceSpec(ApiStruct, frozen=True):
    """The source credential: a token, AWS credentials or both."""

    token: Annotated[TokenSourceSpec, Meta(description="A token, such as a refresh token.")] | None = None
    credentials: Annotated[CredentialSourceSpec, Meta(description="AWS credentials.")] | None = None

    @property
    def service_account(self) -> ServiceAccountTokenSpec | None:
        """The ServiceAccount to request a token of."""
        return self.token.service_account if self.token else None

    @property
    def token_ref(self) -> SecretKeyRef | None:
        """The Secret key to read the token from."""
        return self.token.secret_key_ref if self.token else None

    @property
    def keys_ref(self) -> SecretRef | None:
        """The Secret to read access keys from."""
        return self.credentials.secret_ref if self.credentials else None

    @property
    def is_ambient(self) -> bool:
        """Whether the source is the operator's own AWS identity."""
        return bool(self.credentials and self.credentials.ambient)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of the source Secrets."""
        return tuple(ref.name for ref in (self.token_ref, self.keys_ref) if ref)
