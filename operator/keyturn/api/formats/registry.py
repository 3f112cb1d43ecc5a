"""The registry of formats: one field of FormatSpec for each."""

import msgspec

from keyturn.api.base import ApiStruct, Kind, exactly_one_of, member_name
from keyturn.api.formats.aws import (
    AwsConfigFormat,
    CredentialProcessFormat,
    CredentialsFileFormat,
    EnvFormat,
    TokenFormat,
    WebIdentityTokenFormat,
)
from keyturn.api.formats.base import FormatOptions
from keyturn.api.formats.packages import (
    DockerConfigJsonFormat,
    MavenFormat,
    NpmFormat,
    PipFormat,
)
from keyturn.api.formats.template import TemplateFormat


class FormatSpec(ApiStruct, frozen=True):
    """A format to write to the Secret. Set exactly one."""

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

    @property
    def options(self) -> FormatOptions:
        """The one member that is set."""
        members: tuple[FormatOptions | None, ...] = msgspec.structs.astuple(self)
        return next(member for member in members if member is not None)

    @property
    def name(self) -> str:
        """The name of the format, as in a manifest."""
        return member_name(self)


# Format types by their names in a manifest.
FORMATS: dict[str, type[FormatOptions]] = {
    field.encode_name: field.type.__args__[0] for field in msgspec.structs.fields(FormatSpec)
}
FormatSpec.RULES = (exactly_one_of(*FORMATS),)

# The default formats, by what the last exchange produces. If it produces several kinds, the first entry applies.
DEFAULT_FORMATS: dict[Kind, tuple[FormatSpec, ...]] = {
    "credentials": (FormatSpec(env=EnvFormat()), FormatSpec(credential_process=CredentialProcessFormat())),
    "registryLogins": (FormatSpec(docker_config_json=DockerConfigJsonFormat()),),
    "token": (FormatSpec(token=TokenFormat()),),
}


def key_in_cel(union: str) -> str:
    """Return the CEL expression for the key that a format writes (the first one, if there are several)."""
    cel = "''"
    # Reversed, so that CEL tests for env first: most manifests have it.
    for name, options in reversed(FORMATS.items()):
        key = (
            f"{union}.{name}.?key.orValue('{options.KEY}')"
            if "key" in options.__struct_fields__
            else f"'{options.KEY}'"
        )
        cel = f"has({union}.{name}) ? {key} : {cel}"
    return cel
