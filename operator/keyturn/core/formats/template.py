"""Renders the template format: inserts values into its text."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

from keyturn.api.formats.template import PLACEHOLDER, TemplateFormat
from keyturn.api.times import rfc3339
from keyturn.core.errors import RefusedError
from keyturn.core.formats.context import FormatContext, check_endpoint, registry_logins
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.core.token_times import jwt_times

# Characters with no special meaning in shells, quoted strings, JSON, XML and INI: the syntax of the text is unknown.
_PLAIN = re.compile(r"[-A-Za-z0-9._~+/=:,@]+")
# Returns a value with its own expiration time, or None if the pipeline does not provide it.
_Getter = Callable[[PipelineValues], Token | None]


def template_values(options: TemplateFormat, values: PipelineValues) -> Iterator[Token]:
    """Yield the pipeline values that the text uses; raises RefusedError (InvalidSpec) if one is missing."""
    for name in options.names:
        if name in _GETTERS:
            yield _require(name, _GETTERS[name](values))


def template(context: FormatContext[TemplateFormat]) -> str:
    """Insert the values into the text in a single pass: `{{` inside a value is not expanded again.

    Raises RefusedError (InvalidSpec) for a value that is missing or not plain, and for a text that is too large.
    """
    expiration = rfc3339(context.expires_at) if context.expires_at else None
    settings = {"region": context.request.spec.region, "expiration": expiration}
    texts = {}
    for name in context.options.names:
        if name in _GETTERS:
            text = _require(name, _GETTERS[name](context.values)).value
            if not _PLAIN.fullmatch(text):
                is_token = name == "accessToken"
                hint = "use the format token, which writes the token as it is" if is_token else "use another format"
                raise RefusedError(
                    "InvalidSpec",
                    f"the template for key {context.options.key} cannot be rendered: the value of {name} contains"
                    f" characters that a template would have to escape; {hint}",
                )
        else:
            text = _require(name, _optional_token(settings[name])).value
        texts[name] = text
    literals_and_names = PLACEHOLDER.split(context.options.text)
    literals, names = literals_and_names[::2], literals_and_names[1::2]
    size = len("".join(literals).encode()) + sum(len(texts[name]) for name in names)
    context.check_size(len(context.options.key) + size)
    return PLACEHOLDER.sub(lambda match: texts[match[1]], context.options.text)


def _require(name: str, value: Token | None) -> Token:
    if value is None:
        count = " exactly one" if name.startswith(("registry", "package")) else ""
        raise RefusedError("InvalidSpec", f"a template uses {name}, but the exchanges do not provide{count or ' it'}")
    return value


def _optional_token(
    value: str | None, expires_at: datetime | None = None, clock_lag: timedelta = timedelta()
) -> Token | None:
    return Token(value, expires_at, clock_lag) if value else None


def _from_credentials(field: str) -> _Getter:
    def get(values: PipelineValues) -> Token | None:
        if not (source := values.credentials):
            return None
        return _optional_token(getattr(source, field), source.expires_at, source.clock_lag)

    return get


def _from_login(field: str) -> _Getter:
    def get(values: PipelineValues) -> Token | None:
        logins = registry_logins(values)
        if len(logins) != 1:
            return None
        return _optional_token(getattr(logins[0], field), logins[0].expires_at, logins[0].clock_lag)

    return get


_GETTERS: Mapping[str, _Getter] = {
    "accessToken": lambda values: values.access_token,
    "idToken": lambda values: values.id_token,
    "identityContext": lambda values: _optional_token(
        values.identity_context, jwt_times(values.identity_context or "").expires_at
    ),
    "tokenId": lambda values: _optional_token(values.token_id),
    "accessKeyId": _from_credentials("access_key_id"),
    "secretAccessKey": _from_credentials("secret_access_key"),
    "sessionToken": _from_credentials("session_token"),
    "principal": lambda values: _optional_token(values.principal),
    "registryHost": _from_login("host"),
    "registryUsername": _from_login("username"),
    "registryPassword": _from_login("password"),
    "packageEndpoint": lambda values: (
        _optional_token(check_endpoint(values.package_endpoints[0]).url) if len(values.package_endpoints) == 1 else None
    ),
    "identityId": lambda values: _optional_token(values.identity_id),
}
