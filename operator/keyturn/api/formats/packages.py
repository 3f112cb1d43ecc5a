"""The formats for container runtimes and package managers."""

from typing import Annotated, ClassVar

from msgspec import Meta

from keyturn.api.base import Key, Kind, matching
from keyturn.api.exchanges.codeartifact import RepositoryName
from keyturn.api.formats.base import FileFormatOptions, FormatOptions


class DockerConfigJsonFormat(FormatOptions, frozen=True):
    """Registry logins for imagePullSecrets. The Secret has the type kubernetes.io/dockerconfigjson."""

    WRITES: ClassVar[tuple[Kind, ...]] = ("registryLogins",)
    KEY: ClassVar[str] = ".dockerconfigjson"


class PackageManagerFormat(FileFormatOptions, frozen=True):
    """The configuration of a package manager for one repository, with the token as the password."""

    WRITES: ClassVar[tuple[Kind, ...]] = ("packageEndpoints", "token")

    repository: (
        Annotated[
            RepositoryName,
            Meta(description="Name of the CodeArtifact repository. Default: the only one with this package format."),
        ]
        | None
    ) = None


class PipFormat(PackageManagerFormat, frozen=True):
    """A pip.conf for PIP_CONFIG_FILE, with the repository as index-url."""

    KEY: ClassVar[str] = "pip.conf"

    key: Annotated[Key, Meta(description="Key of the Secret. Default: pip.conf.")] | None = None


class NpmFormat(PackageManagerFormat, frozen=True):
    """An .npmrc for NPM_CONFIG_USERCONFIG, with the repository as registry."""

    KEY: ClassVar[str] = ".npmrc"

    key: Annotated[Key, Meta(description="Key of the Secret. Default: .npmrc.")] | None = None
    scope: (
        Annotated[
            str,
            matching(
                r"^@[-a-z0-9~][-a-z0-9._~]*\Z",
                "an npm scope, such as @acme: @, then lower-case letters, digits and -._~",
                min_length=2,
                max_length=214,
                description="Use the repository only for packages of this scope, such as @acme. Default: all packages.",
            ),
        ]
        | None
    ) = None


class MavenFormat(PackageManagerFormat, frozen=True):
    """A settings.xml for `mvn --settings`, with a server and an active profile for the repository."""

    KEY: ClassVar[str] = "settings.xml"

    key: Annotated[Key, Meta(description="Key of the Secret. Default: settings.xml.")] | None = None
    server_id: (
        Annotated[
            str,
            matching(
                r"^[-A-Za-z0-9_.]+\Z",
                "letters, digits, '-', '_' and '.'",
                min_length=1,
                max_length=128,
                description="ID of the server and repository in a pom.xml. Default: the name of the repository.",
            ),
        ]
        | None
    ) = None
