"""What a format may take from what is held; each raises where it is not there or not fit for a file."""

import re

from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import Credentials, PackageEndpoint, PipelineValues, RegistryLogin

# RFC 6750 section 2.1: what every client takes for a bearer token, and no file format for anything else.
_B64TOKEN = re.compile(r"[-A-Za-z0-9._~+/]+=*")
_URL = re.compile(r"https?://[-A-Za-z0-9.:]+(/[-A-Za-z0-9._~]+)*/?")


def credentials(values: PipelineValues) -> Credentials:
    """The credentials. The API's rules see to it that there are some."""
    if values.credentials is None:
        message = "a format holds credentials, and no exchange gives them; the rules of the API refuse that"
        raise AssertionError(message)
    return values.credentials


def logins(values: PipelineValues) -> tuple[RegistryLogin, ...]:
    """The logins that count: the last one for each host."""
    return tuple({login.host: login for login in values.registry_logins}.values())


def password(values: PipelineValues) -> str:
    """The password of the package endpoints; raises RefusedError (SourceInvalid) for what is no bearer token."""
    token = values.access_token
    if token is None or not _B64TOKEN.fullmatch(token.value):
        raise RefusedError("SourceInvalid", "the token is not one of RFC 6750, and so no package manager's password")
    return token.value


def endpoint(kind: str, repository: str | None, values: PipelineValues) -> PackageEndpoint:
    """The endpoint of a repository of a kind, such as pypi; where none is named there must be one only.

    Raises RefusedError: InvalidSpec where that is not so, SourceInvalid where its URL is odd.
    """
    given = [one for one in values.package_endpoints if one.format == kind]
    wanted = [one for one in given if repository in (None, one.repository)]
    if len(wanted) != 1:
        there = ", ".join(one.repository for one in given) or "none"
        which = f"{kind} repository {repository}" if repository else f"one {kind} repository"
        raise RefusedError("InvalidSpec", f"a format wants {which}, and the exchanges give {there}")
    return safe_endpoint(wanted[0])


def safe_endpoint(one: PackageEndpoint) -> PackageEndpoint:
    """Return the endpoint; raises RefusedError (SourceInvalid) where its URL could break a file."""
    if not _URL.fullmatch(one.url):
        raise RefusedError("SourceInvalid", f"the endpoint of repository {one.repository} is not a plain URL")
    return one
