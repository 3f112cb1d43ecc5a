"""The ways to write what is held, one type each."""

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from keyturn.core.model.part import Key, Kind, Part, Rule, exactly_one_of

ENV_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION")
RESERVED_KEYS = (*ENV_KEYS, "expiration")

_key_is_free = Rule(
    says=f"key must not be one of {', '.join(RESERVED_KEYS)}",
    cel=f"!has(self.key) || !(self.key in {list(RESERVED_KEYS)})",
    holds=lambda it: it.key not in RESERVED_KEYS,
)


class OneFormat(Part, frozen=True):
    """What every format tells of itself: the kinds of value that it holds, and the keys that it writes."""

    HOLDS: ClassVar[tuple[Kind, ...]] = ("credentials",)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the Secret that this format may write."""
        raise NotImplementedError


class EnvFormat(OneFormat, frozen=True):
    """AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and, where known, AWS_REGION."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that this format may write."""
        return ENV_KEYS


class CredentialProcessFormat(OneFormat, frozen=True):
    """The JSON that `credential_process = cat FILE` hands to an AWS SDK."""

    key: Annotated[Key, Meta(description="Default: credentials.json.")] | None = None

    RULES: ClassVar[tuple[Rule, ...]] = (_key_is_free,)

    @property
    def keys(self) -> tuple[str, ...]:
        """The one key that this format writes."""
        return (self.key or "credentials.json",)


class CredentialsFileFormat(OneFormat, frozen=True):
    """A shared credentials file. Only the AWS SDK for Java reads it again after it has changed."""

    key: Annotated[Key, Meta(description="Default: credentials.")] | None = None
    profile: (
        Annotated[
            str,
            Meta(min_length=1, max_length=64, pattern=r"^[-A-Za-z0-9_.@]+\Z", description="Default: default."),
        ]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (_key_is_free,)

    @property
    def keys(self) -> tuple[str, ...]:
        """The one key that this format writes."""
        return (self.key or "credentials",)


class TokenFormat(OneFormat, frozen=True):
    """The newest token as it is, without a newline."""

    HOLDS: ClassVar[tuple[Kind, ...]] = ("token",)

    key: Annotated[Key, Meta(description="Default: token.")] | None = None

    RULES: ClassVar[tuple[Rule, ...]] = (_key_is_free,)

    @property
    def keys(self) -> tuple[str, ...]:
        """The one key that this format writes."""
        return (self.key or "token",)


class Format(Part, frozen=True):
    """A way to write what is held: exactly one member."""

    env: EnvFormat | None = None
    credential_process: CredentialProcessFormat | None = None
    credentials_file: CredentialsFileFormat | None = None
    token: TokenFormat | None = None

    DEFAULTS: ClassVar[dict[str, tuple["Format", ...]]] = {}

    @property
    def options(self) -> OneFormat:
        """The one member that is set."""
        members: tuple[OneFormat | None, ...] = msgspec.structs.astuple(self)
        return next(member for member in members if member is not None)

    @property
    def name(self) -> str:
        """The name of the member that is set, as in a manifest."""
        return next(
            wire
            for attribute, wire in zip(self.__struct_fields__, self.__struct_encode_fields__, strict=True)
            if getattr(self, attribute) is not None
        )


# By name in a manifest.
FORMATS: dict[str, type[OneFormat]] = {
    field.encode_name: field.type.__args__[0] for field in msgspec.structs.fields(Format)
}
Format.RULES = (exactly_one_of(*FORMATS),)
Format.DEFAULTS.update(
    credentials=(Format(env=EnvFormat()), Format(credential_process=CredentialProcessFormat())),
    token=(Format(token=TokenFormat()),),
)

# An env format is known by its first key: two of them are a repeated key like any other.
KEY_IN_CEL = (
    "(has({0}.env) ? 'AWS_ACCESS_KEY_ID' : has({0}.credentialProcess)"
    " ? {0}.credentialProcess.?key.orValue('credentials.json') : has({0}.credentialsFile)"
    " ? {0}.credentialsFile.?key.orValue('credentials') : {0}.?token.?key.orValue('token'))"
)
