"""The context that a format is rendered from, and checked access to the pipeline values.

Each accessor raises an error if the value is missing or unfit for a file.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from keyturn.api.formats.base import FormatOptions
from keyturn.api.token_request import Request
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import Credentials, PackageEndpoint, PipelineValues, RegistryLogin

Options = TypeVar("Options", bound=FormatOptions)

# The API server's limit for the values of a Secret. Here, the keys count towards it, too.
MAX_SECRET_SIZE = 1024 * 1024

# RFC 6750 section 2.1. Every client accepts these as a bearer token, and they are not special in any file format.
_B64TOKEN = re.compile(r"[-A-Za-z0-9._~+/]+=*")
_URL = re.compile(r"https?://[-A-Za-z0-9.:]+(/[-A-Za-z0-9._~]+)*/?")


@dataclass(frozen=True, slots=True)
class FormatContext(Generic[Options]):
    """The options of the format, the request, the pipeline values, and the earliest expiry of a rendered value.

    `size` is that of the data that other formats have rendered, in bytes.
    """

    name: str
    options: Options
    request: Request
    values: PipelineValues
    expires_at: datetime | None
    size: int = 0

    def check_size(self, size: int) -> None:
        """Raise RefusedError (InvalidSpec) if `size` more bytes, keys included, would make the Secret too large.

        A format that repeats values calls this before it builds its text: eight templates in a TokenRequest can ask
        for more memory than the operator has.
        """
        if self.size + size > MAX_SECRET_SIZE:
            raise RefusedError(
                "InvalidSpec",
                f"the format {self.name} (key {self.options.keys[0]}) would increase the Secret to {self.size + size}"
                f" bytes; at most {MAX_SECRET_SIZE} are allowed",
            )


def require_credentials(values: PipelineValues) -> Credentials:
    """Return the credentials. The rules of the API ensure that an exchange provides them."""
    if values.credentials is None:
        raise AssertionError("a format needs credentials, but no exchange provides them")
    return values.credentials


def registry_logins(values: PipelineValues) -> tuple[RegistryLogin, ...]:
    """Return the last login for each host."""
    return tuple({login.host: login for login in values.registry_logins}.values())


def package_password(values: PipelineValues) -> str:
    """Return the password for the package endpoints. Raises RefusedError (InvalidSpec) if RFC 6750 forbids it."""
    token = values.access_token
    if token is None or not _B64TOKEN.fullmatch(token.value):
        raise RefusedError(
            "InvalidSpec",
            "the issued token has characters that RFC 6750 does not allow, so package managers cannot use it",
        )
    return token.value


def package_endpoint(package_format: str, repository: str | None, values: PipelineValues) -> PackageEndpoint:
    """Return the endpoint of a repository for a package format such as pypi; without `repository`, the only endpoint.

    Raises RefusedError (InvalidSpec) if none or several match, or if the URL could break a file.
    """
    candidates = [endpoint for endpoint in values.package_endpoints if endpoint.format == package_format]
    matches = [endpoint for endpoint in candidates if repository in (None, endpoint.repository)]
    if len(matches) != 1:
        available = ", ".join(endpoint.repository for endpoint in candidates) or "none"
        requirement = f"{package_format} repository {repository}" if repository else f"one {package_format} repository"
        raise RefusedError("InvalidSpec", f"a format needs {requirement}, but the exchanges provide {available}")
    return check_endpoint(matches[0])


def check_endpoint(endpoint: PackageEndpoint) -> PackageEndpoint:
    """Return the endpoint; raises RefusedError (InvalidSpec) if its URL could break a file."""
    if not _URL.fullmatch(endpoint.url):
        raise RefusedError("InvalidSpec", f"the endpoint of repository {endpoint.repository} is not a plain URL")
    return endpoint
