"""What the first exchange starts from."""

from typing import Annotated, ClassVar

from msgspec import Meta

from keyturn.api.base import ApiStruct, Key, Name, Rule, exactly_one_of


class SecretKeyRef(ApiStruct, frozen=True):
    """A key of a Secret in the namespace of the TokenRequest."""

    name: Annotated[Name, Meta(description="Name of the Secret.")]
    key: Annotated[Key, Meta(description="Key in its data.")]


class SecretRef(ApiStruct, frozen=True):
    """A Secret in the namespace of the TokenRequest."""

    name: Annotated[Name, Meta(description="Name of the Secret.")]


class SecretValue(ApiStruct, frozen=True):
    """A value that must not stand in a manifest."""

    secret_key_ref: Annotated[SecretKeyRef, Meta(description="Where the value is read, anew for each renewal.")]


class ConfigMapKeyRef(ApiStruct, frozen=True):
    """A key of a ConfigMap in the namespace of the TokenRequest."""

    name: Annotated[Name, Meta(description="Name of the ConfigMap.")]
    key: Annotated[Key, Meta(description="Key in its data.")]


class BundleValue(ApiStruct, frozen=True):
    """A value that need not be secret: exactly one place where it is."""

    secret_key_ref: Annotated[SecretKeyRef, Meta(description="In a Secret.")] | None = None
    config_map_key_ref: Annotated[ConfigMapKeyRef, Meta(description="In a ConfigMap.")] | None = None

    RULES: ClassVar[tuple[Rule, ...]] = (exactly_one_of("secretKeyRef", "configMapKeyRef"),)

    @property
    def ref(self) -> SecretKeyRef | ConfigMapKeyRef | None:
        """The place; the rules see to it that there is one."""
        return self.secret_key_ref or self.config_map_key_ref


class SaveTo(ApiStruct, frozen=True):
    """The token Secret: where a token that the issuer rotates is kept."""

    secret_name: Annotated[Name, Meta(description="Name of a Secret of Keyturn's own.")]


class ServiceAccountTokenSpec(ApiStruct, frozen=True):
    """A token of a ServiceAccount in the namespace of the TokenRequest, made anew for each renewal."""

    name: Annotated[Name, Meta(description="Name of the ServiceAccount.")]
    audiences: (
        Annotated[
            tuple[Annotated[str, Meta(min_length=1, max_length=1024, pattern=r"^[!-~]+\Z")], ...],
            Meta(
                min_length=1,
                max_length=4,
                description="Whom the token is for, as far as the operator's settings allow it. Default:"
                " sts.amazonaws.com.",
            ),
        ]
        | None
    ) = None
    expiration_seconds: (
        Annotated[
            int,
            Meta(ge=600, le=86400, description="Wanted lifetime of the token in seconds. Default: 3600."),
        ]
        | None
    ) = None


class TokenSourceSpec(ApiStruct, frozen=True):
    """A long-lived token, or one that is made for each renewal. White space and quotes around it are dropped."""

    secret_key_ref: (
        Annotated[SecretKeyRef, Meta(description="Where the token is read, anew for each renewal.")] | None
    ) = None
    service_account: ServiceAccountTokenSpec | None = None
    save_to: (
        Annotated[
            SaveTo,
            Meta(description="Where a rotated token is kept. Default: <name of the source Secret>-keyturn."),
        ]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="give exactly one of secretKeyRef, serviceAccount",
            cel="has(self.secretKeyRef) != has(self.serviceAccount)",
            is_met_by=lambda it: (it.secret_key_ref is None) != (it.service_account is None),
        ),
        Rule(
            message="saveTo is for a token of a Secret",
            cel="!has(self.saveTo) || has(self.secretKeyRef)",
            is_met_by=lambda it: it.save_to is None or it.secret_key_ref is not None,
        ),
        Rule(
            message="saveTo.secretName must not be the source Secret: Keyturn never writes what it did not make",
            cel="!has(self.saveTo) || !has(self.secretKeyRef) || self.saveTo.secretName != self.secretKeyRef.name",
            is_met_by=lambda it: (
                not (it.save_to and it.secret_key_ref and it.save_to.secret_name == it.secret_key_ref.name)
            ),
        ),
    )

    @property
    def token_secret(self) -> str:
        """The name of the token Secret, empty where the source cannot be spent."""
        if self.secret_key_ref is None:
            return ""
        return self.save_to.secret_name if self.save_to else f"{self.secret_key_ref.name}-keyturn"


class AmbientSpec(ApiStruct, frozen=True):
    """The operator's own AWS identity, for the namespaces and roles that its settings name."""


class CredentialSourceSpec(ApiStruct, frozen=True):
    """AWS credentials: the access keys of an IAM user, or the operator's own."""

    secret_ref: (
        Annotated[
            SecretRef,
            Meta(description="Its keys: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if any, AWS_SESSION_TOKEN."),
        ]
        | None
    ) = None
    ambient: AmbientSpec | None = None

    RULES: ClassVar[tuple[Rule, ...]] = (exactly_one_of("secretRef", "ambient"),)


class SourceSpec(ApiStruct, frozen=True):
    """What short-lived credentials are made from: a token, AWS credentials, or both.

    Neither, where the first exchange is a client that asks for itself.
    """

    token: Annotated[TokenSourceSpec, Meta(description="A token, such as a refresh token.")] | None = None
    credentials: Annotated[CredentialSourceSpec, Meta(description="AWS credentials.")] | None = None

    @property
    def service_account(self) -> ServiceAccountTokenSpec | None:
        """Whose token is made anew for each renewal."""
        return self.token.service_account if self.token else None

    @property
    def token_ref(self) -> SecretKeyRef | None:
        """Where the token is, if it is in a Secret."""
        return self.token.secret_key_ref if self.token else None

    @property
    def keys_ref(self) -> SecretRef | None:
        """Where the access keys are, if they are in a Secret."""
        return self.credentials.secret_ref if self.credentials else None

    @property
    def is_ambient(self) -> bool:
        """Whether the operator's own AWS identity is asked for."""
        return bool(self.credentials and self.credentials.ambient)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of the Secrets that it is read from."""
        return tuple(ref.name for ref in (self.token_ref, self.keys_ref) if ref)
