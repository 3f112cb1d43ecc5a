"""Credentials and tokens become the files that tools read. Each format has its own escaper."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from keyturn.api.base import Kind
from keyturn.api.formats.registry import FormatSpec
from keyturn.api.times import rfc3339
from keyturn.api.token_request import Request
from keyturn.core.formats.aws import aws_config, credential_process, credentials_file, env
from keyturn.core.formats.packages import docker_config_json, maven, npm, pip
from keyturn.core.formats.template import named, template
from keyturn.core.formats.values import credentials, logins
from keyturn.core.pipeline_values import PipelineValues, safe

__all__ = ["expiry", "render"]


def render(request: Request, values: PipelineValues) -> dict[str, str]:
    """Write what is held in each of the formats, and `expiration`: the data of the Secret."""
    data: dict[str, str] = {}
    ends = expiry(request.spec.formats, values)
    for wanted in request.spec.formats:
        if wanted.env:
            data |= env(request, values)
        elif wanted.template:
            data[wanted.template.key] = template(wanted.template, request, values, ends)
        else:
            data[wanted.options.keys[0]] = _WRITERS[wanted.name](wanted.options, request, values)
    return data | ({"expiration": rfc3339(ends)} if ends else {})


def expiry(formats: tuple[FormatSpec, ...], values: PipelineValues) -> datetime | None:
    """The earliest expiry among the values that the formats hold."""
    ends = [end for wanted in formats for end in _ends(wanted, values)]
    return min((end for end in ends if end), default=None)


def _ends(wanted: FormatSpec, values: PipelineValues) -> Iterable[datetime | None]:
    if wanted.template:
        return [value.expires_at for value in named(wanted.template, values)]
    return [end for kind in wanted.options.kinds for end in _ENDS[kind](values)]


def _token(_: object, __: Request, values: PipelineValues) -> str:
    # No newline: a Go, Java, JavaScript or Rust SDK refuses a token file that ends in one.
    return safe(values.newest_token.value, "the token")


_ENDS: Mapping[Kind, Callable[[PipelineValues], Iterable[datetime | None]]] = {
    "credentials": lambda it: [credentials(it).expires_at],
    "token": lambda it: [it.newest_token.expires_at],
    "registryLogins": lambda it: [login.expires_at for login in logins(it)],
    "packageEndpoints": lambda _: [],
}

# The formats that write one key: options of the format, the request and what is held.
_WRITERS: Mapping[str, Callable[[Any, Request, PipelineValues], str]] = {
    "credentialProcess": credential_process,
    "credentialsFile": credentials_file,
    "awsConfig": aws_config,
    "token": _token,
    "webIdentityToken": _token,
    "dockerConfigJson": docker_config_json,
    "pip": pip,
    "npm": npm,
    "maven": maven,
}
