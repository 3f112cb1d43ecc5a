"""The values that exchanges pass on, each with its own expiration time. An exchange replaces only those it returns."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from keyturn.api.status import MAX_PRINCIPAL_LENGTH
from keyturn.api.times import Moment
from keyturn.core.errors import RefusedError

# AWS STS accepts no longer web identity tokens, and most servers no longer headers.
MAX_VALUE_LENGTH = 20_000
# AWS: "make no assumptions about the maximum size" of a session token. This is several times the usual maximum.
MAX_SESSION_TOKEN_LENGTH = 32 * 1024
# The maximum in IAM's data type AccessKey. Rate limits are kept by key ID.
_MAX_KEY_ID_LENGTH = 128
# VSCHAR of RFC 6749 appendix A without quote and backslash, which includes all of RFC 6750's b64token: these
# characters are not special in any file format, header or shell.
_SAFE = re.compile(r"[!#-\[\]-~]+")
# The keys of a source Secret with AWS credentials: those that it must have, and all.
REQUIRED_AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
AWS_KEYS = (*REQUIRED_AWS_KEYS, "AWS_SESSION_TOKEN")


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token. `expires_at` is None if its expiration time is unknown.

    `clock_lag` is by how much the local clock is behind the one by which `expires_at` was stated.
    """

    value: str = field(repr=False)
    expires_at: datetime | None = None
    clock_lag: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class Credentials:
    """AWS credentials. Long-lived access keys have neither a session token nor an expiration time.

    `clock_lag`: see Token.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(repr=False, default=None)
    expires_at: datetime | None = None
    clock_lag: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class SourceValues:
    """The values that were read from the source, as far as the spec refers to them.

    `single_use_credential` is the input of a step that works only once, such as an authorization code.
    """

    token: str | None = field(repr=False, default=None)
    credentials: Credentials | None = None
    single_use_credential: str | None = field(repr=False, default=None)


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """The login of a container registry. `host` is the host in its image names, `more_hosts` are additional hosts.

    `clock_lag`: see Token.
    """

    host: str
    username: str
    password: str = field(repr=False)
    expires_at: datetime | None = None
    more_hosts: tuple[str, ...] = ()
    clock_lag: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class PackageEndpoint:
    """The URL of a package repository. `format` is CodeArtifact's name of the package format, such as pypi."""

    format: str
    repository: str
    url: str


@dataclass(frozen=True, slots=True)
class Superseded:
    """A License Manager token and the time at which a newer one replaced it. It may still be in use."""

    token_id: str
    at: Moment


@dataclass(frozen=True, slots=True)
class PipelineValues:
    """The values that are available to an exchange.

    `refresh_token` is the last one that the issuer returned; if there is one, it is used instead of the
    `single_use_credential`. `refresh_expires_at` is when it expires, or the one that was sent if none was returned.
    `renewable` is False if no further renewal is possible. `identity_context` is AWS's signed statement about the user
    for whom a role is assumed. The access token is the password for the `package_endpoints`. `principal` is the ARN of
    the credentials' principal, `token_id` the ID of the License Manager token, `superseded` the earlier ones that have
    not been revoked, `identity_id` the ID of the Cognito identity, and `request_id` the ID of the last AWS request.
    `revision` counts the renewals; it stays the same if an exchange is retried. `error` is one that the issuer reported
    together with a new refresh token, or a bug in reading the response; it is raised once that token is saved.
    """

    source_token: Token | None = None
    access_token: Token | None = None
    id_token: Token | None = None
    refresh_token: str | None = field(repr=False, default=None)
    refresh_expires_at: datetime | None = None
    single_use_credential: str | None = field(repr=False, default=None)
    renewable: bool = True
    identity_context: str | None = field(repr=False, default=None)
    credentials: Credentials | None = None
    registry_logins: tuple[RegistryLogin, ...] = ()
    package_endpoints: tuple[PackageEndpoint, ...] = ()
    principal: str = ""
    token_id: str = ""
    identity_id: str = ""
    request_id: str = ""
    superseded: tuple[Superseded, ...] = ()
    revision: int = 0
    error: Exception | None = None

    @property
    def signing_credentials(self) -> Credentials:
        """The credentials that sign the next call. The rules of the API ensure that there are some."""
        if self.credentials is None:
            raise RefusedError(
                "InvalidSpec",
                "an exchange needs credentials, but nothing before it provides them",
            )
        return self.credentials

    @property
    def current_token(self) -> Token:
        """The token that the next exchange uses. The rules of the API ensure that there is one."""
        token = self.access_token or self.source_token
        if token is None:
            raise RefusedError("InvalidSpec", "an exchange needs a token, but nothing before it provides one")
        return token

    def input_token(self, choice: str | None) -> Token:
        """The token that an exchange selects with `from`; raises RefusedError (InvalidSpec) if there is none."""
        if choice != "idToken":
            return self.current_token
        if self.id_token is None:
            raise RefusedError(
                "InvalidSpec", "an exchange needs an idToken, but the issuer returned none: add openid to the scope"
            )
        return self.id_token


def require_safe(value: str, what: str, maximum: int = MAX_VALUE_LENGTH) -> str:
    """Return the value; raises RefusedError (SourceInvalid), which names `what`, if it could break a file.

    A value of more than `maximum` characters is refused, too.
    """
    if len(value) > maximum:
        raise RefusedError("SourceInvalid", f"{what} has {len(value)} characters; at most {maximum} are allowed")
    if not _SAFE.fullmatch(value):
        raise RefusedError("SourceInvalid", f"{what} is empty or contains characters that are not valid in a token")
    return value


def require_length(value: str, what: str, minimum: int, maximum: int) -> str:
    """Return the value; raises RefusedError (SourceInvalid), which names `what`, if AWS does not allow its length.

    botocore does not check the maximum, and AWS's own ValidationError does not state the cause.
    """
    if not minimum <= len(value) <= maximum:
        raise RefusedError("SourceInvalid", f"{what} has {len(value)} characters; AWS accepts {minimum} to {maximum}")
    return value


def check_lengths(values: PipelineValues) -> None:
    """Raise RefusedError (InvalidSpec) if an exchange returned a value that is too long.

    This is checked only after the exchange, because a rotated refresh token must be saved even if the rest is invalid.
    """
    access_token, id_token = values.access_token, values.id_token
    tokens = {
        "an access token": access_token.value if access_token else "",
        "an ID token": id_token.value if id_token else "",
        "an identity context": values.identity_context or "",
    }
    names = {"a principal": values.principal, "a token ID": values.token_id, "an identity ID": values.identity_id}
    for texts, maximum in ((tokens, MAX_VALUE_LENGTH), (names, MAX_PRINCIPAL_LENGTH)):
        for what, text in texts.items():
            if len(text) > maximum:
                raise RefusedError(
                    "InvalidSpec",
                    f"an exchange returned {what} of {len(text)} characters; at most {maximum} are allowed",
                )


def with_new_tokens(
    values: PipelineValues, refresh_token: str | None, read_tokens: Callable[[], PipelineValues]
) -> PipelineValues:
    """Return what `read_tokens` returns. If it raises, return only a new refresh token, and the exception in `error`.

    The old refresh token is consumed by now, so a bug in reading the rest of the response must not lose the new one.
    """
    try:
        return read_tokens()
    except Exception as bug:
        if refresh_token is None:
            raise
        return replace(values, refresh_token=refresh_token, error=bug)


def unwrap(value: str, what: str, maximum: int = MAX_VALUE_LENGTH) -> str:
    """Return a stored token without what `echo` and `jq` add. Raises RefusedError if it cannot be sent."""
    return require_safe(unquoted(value), what, maximum)


def require_content(value: str, what: str) -> str:
    """Return a stored value; raises RefusedError (SourceKeyEmpty) if it is empty or only white space and quotes."""
    if not unquoted(value):
        raise RefusedError("SourceKeyEmpty", f"{what} is empty")
    return value


def unquoted(value: str) -> str:
    """Return a stored value without the newline that `echo` adds and the quotes that `jq` adds."""
    return value.strip().strip("\"'").strip()


def parse_source(
    token: str | None,
    keys: Mapping[str, str] | None,
    single_use_credential: str | None = None,
    *,
    keys_from: str = "the Secret of source.credentials",
) -> SourceValues:
    """Parse the values of a source Secret. Raises RefusedError: SourceNotFound, SourceKeyEmpty, SourceInvalid.

    `keys_from` is the name of the Secret that contains `keys`, for messages.
    """
    credentials = None
    if keys is not None:
        for name in REQUIRED_AWS_KEYS:
            if name not in keys:
                raise RefusedError("SourceNotFound", f"{keys_from} has no key {name}")
            require_content(keys[name], f"key {name} of {keys_from}")
        session_token = keys.get("AWS_SESSION_TOKEN")
        credentials = Credentials(
            access_key_id=unwrap(keys["AWS_ACCESS_KEY_ID"], "AWS_ACCESS_KEY_ID", _MAX_KEY_ID_LENGTH),
            secret_access_key=unwrap(keys["AWS_SECRET_ACCESS_KEY"], "AWS_SECRET_ACCESS_KEY"),
            session_token=(
                unwrap(session_token, "AWS_SESSION_TOKEN", MAX_SESSION_TOKEN_LENGTH) if session_token else None
            ),
        )
    return SourceValues(
        token=None if token is None else unwrap(token, "the source token"),
        credentials=credentials,
        single_use_credential=(
            None if single_use_credential is None else unwrap(single_use_credential, "the single-use credential")
        ),
    )
