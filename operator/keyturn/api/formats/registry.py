"""The ways to write what is held, one type each."""

from typing import ClassVar

import msgspec

from keyturn.api.base import Kind, Part, exactly_one_of, member_name
from keyturn.api.formats.aws import (
    MOUNTED_AT,
    AwsConfigFormat,
    CredentialProcessFormat,
    CredentialsFileFormat,
    EnvFormat,
)
from keyturn.api.formats.base import OneFormat
from keyturn.api.formats.packages import (
    DockerConfigJsonFormat,
    MavenFormat,
    NpmFormat,
    PipFormat,
)
from keyturn.api.formats.template import ENDING, NAMES, PLACE, TemplateFormat, names_in_cel
from keyturn.api.formats.token import TokenFormat, WebIdentityTokenFormat

__all__ = [
    "ENDING", "FORMATS", "KEY_IN_CEL", "MOUNTED_AT", "NAMES", "PLACE", "AwsConfigFormat",
    "CredentialProcessFormat", "CredentialsFileFormat", "DockerConfigJsonFormat", "EnvFormat", "Format",
    "MavenFormat", "NpmFormat", "OneFormat", "PipFormat", "TemplateFormat", "TokenFormat",
    "WebIdentityTokenFormat", "names_in_cel",
]  # fmt: skip


class Format(Part, frozen=True):
    """A way to write what is held: exactly one member."""

    env: EnvFormat | None = None
    credential_process: CredentialProcessFormat | None = None
    credentials_file: CredentialsFileFormat | None = None
    token: TokenFormat | None = None
    web_identity_token: WebIdentityTokenFormat | None = None
    aws_config: AwsConfigFormat | None = None
    docker_config_json: DockerConfigJsonFormat | None = None
    pip: PipFormat | None = None
    npm: NpmFormat | None = None
    maven: MavenFormat | None = None
    template: TemplateFormat | None = None

    # By the kind of the last value, the first that it is of.
    DEFAULTS: ClassVar[dict[Kind, tuple["Format", ...]]] = {}

    @property
    def options(self) -> OneFormat:
        """The one member that is set."""
        members: tuple[OneFormat | None, ...] = msgspec.structs.astuple(self)
        return next(member for member in members if member is not None)

    @property
    def name(self) -> str:
        """The name of the member that is set, as in a manifest."""
        return member_name(self)


# By name in a manifest.
FORMATS: dict[str, type[OneFormat]] = {
    field.encode_name: field.type.__args__[0] for field in msgspec.structs.fields(Format)
}
Format.RULES = (exactly_one_of(*FORMATS),)
Format.DEFAULTS.update(
    {
        "credentials": (Format(env=EnvFormat()), Format(credential_process=CredentialProcessFormat())),
        "registryLogins": (Format(docker_config_json=DockerConfigJsonFormat()),),
        "token": (Format(token=TokenFormat()),),
    }
)


def _key_in_cel() -> str:
    told = "''"
    # Reversed, so that env, which most manifests have, is asked for first.
    for name, one in reversed(FORMATS.items()):
        key = f"{{0}}.{name}.?key.orValue('{one.KEY}')" if "key" in one.__struct_fields__ else f"'{one.KEY}'"
        told = f"has({{0}}.{name}) ? {key} : {told}"
    return f"({told})"


# The key that a format writes, or its first.
KEY_IN_CEL = _key_in_cel()
