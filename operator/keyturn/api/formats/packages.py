"""The formats that container and package clients read."""

from typing import Annotated, ClassVar

from msgspec import Meta

from keyturn.api.base import Key, Kind
from keyturn.api.formats.base import FileFormatOptions, FormatOptions

# CodeArtifact's pattern of a repository name.
Repository = Annotated[
    str,
    Meta(
        min_length=2,
        max_length=100,
        pattern=r"^[A-Za-z0-9][-A-Za-z0-9._]{1,99}\Z",
        description="Which of the repositories. Default: the only one of this kind.",
    ),
]


class DockerConfigJsonFormat(FormatOptions, frozen=True):
    """The logins of all registries, for imagePullSecrets: the Secret is of type kubernetes.io/dockerconfigjson."""

    WRITES: ClassVar[tuple[Kind, ...]] = ("registryLogins",)
    KEY: ClassVar[str] = ".dockerconfigjson"


class PackageFormat(FileFormatOptions, frozen=True):
    """The configuration of a package manager: one repository, and the token as its password."""

    WRITES: ClassVar[tuple[Kind, ...]] = ("packageEndpoints", "token")

    repository: Repository | None = None


class PipFormat(PackageFormat, frozen=True):
    """A pip.conf for PIP_CONFIG_FILE, with the repository as its index-url."""

    KEY: ClassVar[str] = "pip.conf"

    key: Annotated[Key, Meta(description="Default: pip.conf.")] | None = None


class NpmFormat(PackageFormat, frozen=True):
    """An .npmrc for NPM_CONFIG_USERCONFIG, with the repository as its registry."""

    KEY: ClassVar[str] = ".npmrc"

    key: Annotated[Key, Meta(description="Default: .npmrc.")] | None = None
    scope: (
        Annotated[
            str,
            Meta(
                min_length=2,
                max_length=214,
                pattern=r"^@[-a-z0-9~][-a-z0-9._~]*\Z",
                description="Use the repository for the packages of this scope only, such as @acme. Default: all.",
            ),
        ]
        | None
    ) = None


class MavenFormat(PackageFormat, frozen=True):
    """A settings.xml for `mvn --settings`: server, and an active profile with the repository."""

    KEY: ClassVar[str] = "settings.xml"

    key: Annotated[Key, Meta(description="Default: settings.xml.")] | None = None
    server_id: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=128,
                pattern=r"^[-A-Za-z0-9_.]+\Z",
                description="The id of server and repository, as in a pom.xml. Default: the repository's name.",
            ),
        ]
        | None
    ) = None
