"""Renders a request's formats into the data of its Secret. Each format escapes in its own way."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from keyturn.api.base import Kind
from keyturn.api.formats.aws import TokenFormat, WebIdentityTokenFormat
from keyturn.api.formats.registry import FormatSpec
from keyturn.api.times import rfc3339
from keyturn.api.token_request import JSON_KEYS, Request
from keyturn.core.bounded_json import decode_object
from keyturn.core.errors import RefusedError
from keyturn.core.formats.aws import aws_config, credential_process, credentials_file, env
from keyturn.core.formats.context import FormatContext, registry_logins, require_credentials
from keyturn.core.formats.packages import docker_config_json, maven, npm, pip
from keyturn.core.formats.template import template, template_values
from keyturn.core.pipeline_values import Credentials, PipelineValues, RegistryLogin, Token

_Expiring = Token | Credentials | RegistryLogin
# RFC 6749 appendix A.12, without white space at either end, which clients remove from a file.
_TOKEN = re.compile(r"[!-~]([ -~]*[!-~])?")


def render(request: Request, values: PipelineValues) -> dict[str, str]:
    """Return the data of the Secret: the keys of each format and, if anything expires, `expiration`.

    Raises RefusedError (InvalidSpec) for a value that the exchanges do not provide or the format cannot represent, and
    for data over 1 MiB.
    """
    data: dict[str, str] = {}
    expires_at = expiry(request.spec.formats, values)
    expiration = {"expiration": rfc3339(expires_at)} if expires_at else {}
    size = _size(expiration)
    for format_spec in request.spec.formats:
        name, options = format_spec.name, format_spec.options
        context: FormatContext[Any] = FormatContext(name, options, request, values, expires_at, size)
        added = env(request, values) if format_spec.env else {options.keys[0]: _WRITERS[name](context)}
        context.check_size(_size(added))
        data |= added
        size += _size(added)
    key = JSON_KEYS.get(request.spec.secret_type)
    if key and decode_object(data[key].encode()) is None:
        raise RefusedError(
            "InvalidSpec", f"the text for key {key} is not a JSON object, which the type of the Secret requires"
        )
    return data | expiration


def _size(data: Mapping[str, str]) -> int:
    return sum(len(key) + len(value.encode()) for key, value in data.items())


def expiry(formats: tuple[FormatSpec, ...], values: PipelineValues, *, is_local: bool = False) -> datetime | None:
    """Return the earliest expiration time among the values that the formats contain; None if none expires.

    With `is_local` it is the time by the local clock, otherwise by the clock of the service that stated it, which is
    correct for those who read the Secret on other nodes.
    """
    expiring: list[_Expiring] = []
    for format_spec in formats:
        if format_spec.template:
            expiring += template_values(format_spec.template, values)
        else:
            expiring += [value for kind in format_spec.options.kinds for value in _EXPIRING[kind](values)]
    times = ((it.expires_at, it.clock_lag if is_local else timedelta()) for it in expiring)
    return min((expires_at - lag for expires_at, lag in times if expires_at), default=None)


def _token(context: FormatContext[TokenFormat | WebIdentityTokenFormat]) -> str:
    token = context.values.current_token.value
    if not _TOKEN.fullmatch(token):
        key, problem = context.options.keys[0], "the issued token has characters that RFC 6749 does not allow"
        raise RefusedError("InvalidSpec", f"the token for key {key} cannot be written: {problem}")
    # No newline: the SDKs for Go, Java, JavaScript and Rust refuse a token file that ends in one.
    return token


_EXPIRING: Mapping[Kind, Callable[[PipelineValues], Iterable[_Expiring]]] = {
    "credentials": lambda values: [require_credentials(values)],
    "token": lambda values: [values.current_token],
    "registryLogins": registry_logins,
    "packageEndpoints": lambda _: [],
}

# The formats that write one key.
_WRITERS: Mapping[str, Callable[[FormatContext[Any]], str]] = {
    "credentialProcess": credential_process,
    "credentialsFile": credentials_file,
    "awsConfig": aws_config,
    "token": _token,
    "webIdentityToken": _token,
    "dockerConfigJson": docker_config_json,
    "pip": pip,
    "npm": npm,
    "maven": maven,
    "template": template,
}
