"""The text of a template with the values in it."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from keyturn.api.formats.template import PLACEHOLDER, TemplateFormat
from keyturn.api.times import rfc3339
from keyturn.api.token_request import Request
from keyturn.core.errors import RefusedError
from keyturn.core.formats.values import logins, safe_endpoint
from keyturn.core.pipeline_values import PipelineValues, Token, jwt_times

# What means itself in a shell, in quotes, in JSON, XML and INI: which of them the text is, nobody knows.
_PLAIN = re.compile(r"[-A-Za-z0-9._~+/=:,@]+")
# A value with its own end, or None where it is not held.
_Take = Callable[[PipelineValues], Token | None]


def named(options: TemplateFormat, values: PipelineValues) -> Iterator[Token]:
    """What the text names of what travels; raises RefusedError (InvalidSpec) for what no exchange gave."""
    for name in options.names:
        if name in _TRAVELS:
            yield _taken(name, values)


def template(options: TemplateFormat, request: Request, values: PipelineValues, ends: datetime | None) -> str:
    """Put the values into the text, in one pass: what a value looks like changes nothing.

    Raises RefusedError: InvalidSpec for a name that nobody gave, SourceInvalid for a value that is not plain.
    """
    about = {"region": request.spec.region, "expiration": rfc3339(ends) if ends else None}

    def value(name: str) -> str:
        if name in _TRAVELS:
            return _plain(name, _taken(name, values).value)
        return about[name] or _missing(name)

    texts = {name: value(name) for name in options.names}
    return PLACEHOLDER.sub(lambda found: texts[found[1]], options.text)


def _taken(name: str, values: PipelineValues) -> Token:
    return _TRAVELS[name](values) or _missing(name)


def _plain(name: str, value: str) -> str:
    if not _PLAIN.fullmatch(value):
        raise RefusedError("SourceInvalid", f"the value of {name} has characters that a template would have to escape")
    return value


def _missing(name: str) -> Any:
    one = " exactly one" if name.startswith(("registry", "package")) else ""
    raise RefusedError("InvalidSpec", f"a template names {name}, and the exchanges do not give{one or ' it'}")


def _token(value: str | None, expires_at: datetime | None = None) -> Token | None:
    return Token(value, expires_at) if value else None


def _key(field: str) -> _Take:
    def take(values: PipelineValues) -> Token | None:
        held = values.credentials
        return _token(getattr(held, field), held.expires_at) if held else None

    return take


def _login(field: str) -> _Take:
    def take(values: PipelineValues) -> Token | None:
        held = logins(values)
        return _token(getattr(held[0], field), held[0].expires_at) if len(held) == 1 else None

    return take


def _identity_context(values: PipelineValues) -> Token | None:
    context = values.identity_context
    return _token(context, jwt_times(context)[1] if context else None)


def _endpoint(values: PipelineValues) -> Token | None:
    held = values.package_endpoints
    return _token(safe_endpoint(held[0]).url) if len(held) == 1 else None


_TRAVELS: Mapping[str, _Take] = {
    "accessToken": lambda it: it.access_token,
    "idToken": lambda it: it.id_token,
    "identityContext": _identity_context,
    "tokenId": lambda it: _token(it.token_id),
    "accessKeyId": _key("access_key_id"),
    "secretAccessKey": _key("secret_access_key"),
    "sessionToken": _key("session_token"),
    "principal": lambda it: _token(it.principal),
    "registryHost": _login("host"),
    "registryUsername": _login("username"),
    "registryPassword": _login("password"),
    "packageEndpoint": _endpoint,
    "identityId": lambda it: _token(it.identity_id),
}
