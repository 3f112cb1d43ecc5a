"""What the first exchange starts from."""

from typing import Annotated, ClassVar

from msgspec import Meta

from keyturn.core.model.part import Key, Name, Part, Rule, exactly_one_of


class SecretKeyRef(Part, frozen=True):
    """A key of a Secret in the namespace of the TokenRequest."""

    name: Annotated[Name, Meta(description="Name of the Secret.")]
    key: Annotated[Key, Meta(description="Key in its data.")]


class SecretRef(Part, frozen=True):
    """A Secret in the namespace of the TokenRequest."""

    name: Annotated[Name, Meta(description="Name of the Secret.")]


class SecretValue(Part, frozen=True):
    """A value that must not stand in a manifest."""

    secret_key_ref: Annotated[SecretKeyRef, Meta(description="Where the value is read, anew for each renewal.")]


class ConfigMapKeyRef(Part, frozen=True):
    """A key of a ConfigMap in the namespace of the TokenRequest."""

    name: Annotated[Name, Meta(description="Name of the ConfigMap.")]
    key: Annotated[Key, Meta(description="Key in its data.")]


class BundleValue(Part, frozen=True):
    """A value that need not be secret: exactly one place where it is."""

    secret_key_ref: Annotated[SecretKeyRef, Meta(description="In a Secret.")] | None = None
    config_map_key_ref: Annotated[ConfigMapKeyRef, Meta(description="In a ConfigMap.")] | None = None

    RULES: ClassVar[tuple[Rule, ...]] = (exactly_one_of("secretKeyRef", "configMapKeyRef"),)

    @property
    def ref(self) -> SecretKeyRef | ConfigMapKeyRef | None:
        """The place; the rules see to it that there is one."""
        return self.secret_key_ref or self.config_map_key_ref


class SaveTo(Part, frozen=True):
    """The token Secret: where a token that the issuer rotates is kept."""

    secret_name: Annotated[Name, Meta(description="Name of a Secret of Keyturn's own.")]


class TokenSource(Part, frozen=True):
    """A long-lived token. White space and quotes around it are dropped."""

    secret_key_ref: Annotated[SecretKeyRef, Meta(description="Where the token is read, anew for each renewal.")]
    save_to: (
        Annotated[
            SaveTo,
            Meta(description="Where a rotated token is kept. Default: <name of the source Secret>-keyturn."),
        ]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            says="saveTo.secretName must not be the source Secret: Keyturn never writes what it did not make",
            cel="!has(self.saveTo) || self.saveTo.secretName != self.secretKeyRef.name",
            holds=lambda it: it.save_to is None or it.save_to.secret_name != it.secret_key_ref.name,
        ),
    )

    @property
    def token_secret(self) -> str:
        """The name of the token Secret."""
        return self.save_to.secret_name if self.save_to else f"{self.secret_key_ref.name}-keyturn"


class CredentialSource(Part, frozen=True):
    """AWS credentials, such as the access keys of an IAM user."""

    secret_ref: Annotated[
        SecretRef,
        Meta(description="Its keys: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if any, AWS_SESSION_TOKEN."),
    ]


class Source(Part, frozen=True):
    """The long-lived proof that short-lived credentials are made from: a token, AWS credentials, or both.

    Neither, where the first exchange is a client that asks for itself.
    """

    token: Annotated[TokenSource, Meta(description="A token, such as a refresh token.")] | None = None
    credentials: Annotated[CredentialSource, Meta(description="AWS credentials.")] | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of the Secrets that it is read from."""
        token = (self.token.secret_key_ref.name,) if self.token else ()
        return token + ((self.credentials.secret_ref.name,) if self.credentials else ())
