"""The formats that AWS SDKs read."""

from typing import Annotated, ClassVar

from msgspec import Meta

from keyturn.api.base import Key, Kind
from keyturn.api.formats.base import ENV_KEYS, FileFormatOptions, FormatOptions

MOUNTED_AT = "/var/run/secrets/keyturn"


class EnvFormat(FormatOptions, frozen=True):
    """AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and, from spec.region, AWS_REGION."""

    # By its first key: two env formats are a repeated key like any other.
    KEY: ClassVar[str] = ENV_KEYS[0]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that this format may write."""
        return ENV_KEYS


class CredentialProcessFormat(FileFormatOptions, frozen=True):
    """The JSON that `credential_process = cat FILE` hands to an AWS SDK."""

    KEY: ClassVar[str] = "credentials.json"

    key: Annotated[Key, Meta(description="Default: credentials.json.")] | None = None


class CredentialsFileFormat(FileFormatOptions, frozen=True):
    """A shared credentials file. Only the AWS SDK for Java reads it again after it has changed."""

    KEY: ClassVar[str] = "credentials"

    key: Annotated[Key, Meta(description="Default: credentials.")] | None = None
    profile: (
        Annotated[
            str,
            Meta(min_length=1, max_length=64, pattern=r"^[-A-Za-z0-9_.@]+\Z", description="Default: default."),
        ]
        | None
    ) = None


class AwsConfigFormat(FileFormatOptions, frozen=True):
    """A shared config file for AWS_CONFIG_FILE: spec.region, and `credential_process = cat FILE`.

    FILE is the key of the credentialProcess format, which must be there too, in the mounted Secret.
    """

    WRITES: ClassVar[tuple[Kind, ...]] = ()
    KEY: ClassVar[str] = "config"

    key: Annotated[Key, Meta(description="Default: config.")] | None = None
    mount_path: (
        Annotated[
            str,
            Meta(
                min_length=2,
                max_length=512,
                # What neither a shell nor Python's shlex, by which botocore splits the line, takes for its own.
                pattern=r"^(/[-A-Za-z0-9_.+@]+)+\Z",
                description="Where the containers mount the Secret, without a slash at the end. Default: "
                f"{MOUNTED_AT}/SECRET, with the name of the Secret.",
            ),
        ]
        | None
    ) = None
