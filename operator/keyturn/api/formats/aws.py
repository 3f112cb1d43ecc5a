"""The formats for AWS SDKs, and those that contain only a token."""

from typing import Annotated, ClassVar

from msgspec import Meta

from keyturn.api.base import Key, Kind, matching
from keyturn.api.formats.base import ENV_KEYS, FileFormatOptions, FormatOptions

MOUNTED_AT = "/var/run/secrets/keyturn"


class EnvFormat(FormatOptions, frozen=True):
    """The keys AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.

    If spec.region is set, also AWS_REGION and AWS_DEFAULT_REGION: boto3 reads only the latter, some SDKs the former.
    """

    # The first of its keys: two env formats are then reported as a duplicate key.
    KEY: ClassVar[str] = ENV_KEYS[0]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that the format may write."""
        return ENV_KEYS


class CredentialProcessFormat(FileFormatOptions, frozen=True):
    """JSON for an AWS SDK that is configured with `credential_process = cat FILE`."""

    KEY: ClassVar[str] = "credentials.json"

    key: Annotated[Key, Meta(description="Key of the Secret. Default: credentials.json.")] | None = None


class CredentialsFileFormat(FileFormatOptions, frozen=True):
    """A shared credentials file. Only the AWS SDK for Java reloads it when it changes."""

    KEY: ClassVar[str] = "credentials"

    key: Annotated[Key, Meta(description="Key of the Secret. Default: credentials.")] | None = None
    profile: (
        Annotated[
            str,
            matching(
                r"^[-A-Za-z0-9_/.%@:+]+\Z",
                "letters, digits and -_/.%@:+",
                min_length=1,
                max_length=64,
                description="Name of the profile. Default: default.",
            ),
        ]
        | None
    ) = None


class AwsConfigFormat(FileFormatOptions, frozen=True):
    """A shared config file for AWS_CONFIG_FILE, with spec.region and `credential_process = cat FILE`.

    FILE is the path of the file that the credentialProcess format writes. The Secret must have that format, too.
    """

    WRITES: ClassVar[tuple[Kind, ...]] = ()
    KEY: ClassVar[str] = "config"

    key: Annotated[Key, Meta(description="Key of the Secret. Default: config.")] | None = None
    mount_path: (
        Annotated[
            str,
            matching(
                # No character that is special to a shell or to Python's shlex, which botocore splits the line with.
                r"^(/[-A-Za-z0-9_.+@]+)+\Z",
                "an absolute path without a slash at the end, with letters, digits and -_.+@ in its names",
                min_length=2,
                max_length=512,
                description="Path at which containers mount the Secret, without a trailing slash. Default: "
                f"{MOUNTED_AT}/ followed by the name of the Secret.",
            ),
        ]
        | None
    ) = None


class TokenFormat(FileFormatOptions, frozen=True):
    """The newest token, without a newline."""

    WRITES: ClassVar[tuple[Kind, ...]] = ("token",)
    KEY: ClassVar[str] = "token"

    key: Annotated[Key, Meta(description="Key of the Secret. Default: token.")] | None = None


class WebIdentityTokenFormat(FileFormatOptions, frozen=True):
    """The newest token, for AWS_WEB_IDENTITY_TOKEN_FILE. The AWS SDK uses it to assume the role in AWS_ROLE_ARN."""

    WRITES: ClassVar[tuple[Kind, ...]] = ("token",)
    KEY: ClassVar[str] = "web_identity_token"

    key: Annotated[Key, Meta(description="Key of the Secret. Default: web_identity_token.")] | None = None
