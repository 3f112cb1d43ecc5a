"""The ways to write what is held, one type each."""

from typing import ClassVar

import msgspec

from keyturn.api.base import ApiStruct, Kind, exactly_one_of, member_name
from keyturn.api.formats.aws import (
    AwsConfigFormat,
    CredentialProcessFormat,
    CredentialsFileFormat,
    EnvFormat,
)
from keyturn.api.formats.base import FormatOptions
from keyturn.api.formats.packages import (
    DockerConfigJsonFormat,
    MavenFormat,
    NpmFormat,
    PipFormat,
)
from keyturn.api.formats.template import TemplateFormat
from keyturn.api.formats.token import TokenFormat, WebIdentityTokenFormat


class FormatSpec(ApiStruct, frozen=True):
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
    DEFAULTS: ClassVar[dict[Kind, tuple["FormatSpec", ...]]] = {}

    @property
    def options(self) -> FormatOptions:
        """The one member that is set."""
        members: tuple[FormatOptions | None, ...] = msgspec.structs.astuple(self)
        return next(member for member in members if member is not None)

    @property
    def name(self) -> str:
        """The name of the member that is set, as in a manifest."""
        return member_name(self)


# By name in a manifest.
FORMATS: dict[str, type[FormatOptions]] = {
    field.encode_name: field.type.__args__[0] for field in msgspec.structs.fields(FormatSpec)
}
FormatSpec.RULES = (exactly_one_of(*FORMATS),)
FormatSpec.DEFAULTS.update(
    {
        "credentials": (FormatSpec(env=EnvFormat()), FormatSpec(credential_process=CredentialProcessFormat())),
        "registryLogins": (FormatSpec(docker_config_json=DockerConfigJsonFormat()),),
        "token": (FormatSpec(token=TokenFormat()),),
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
