"""How the client of a TokenRequest authenticates at the issuer during a sign-in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from keyturn.api.exchanges.oauth import OauthTokenSpec
from keyturn.api.exchanges.oauth_client import (
    CLIENT_ASSERTION_TYPE,
    ClientServiceAccountSpec,
    basic_authorization,
)
from keyturn.api.source import SecretValue, ValueRef
from keyturn.cli import MissingExtraError
from keyturn.cli.login.plan import LoginError
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import unwrap


@dataclass(frozen=True, slots=True)
class ValueReader:
    """Reads what a TokenRequest refers to. Both functions raise click.ClickException."""

    read: Callable[[ValueRef], str]
    create_token: Callable[[ClientServiceAccountSpec], str]


@dataclass(frozen=True, slots=True)
class Client:
    """Headers and form fields with which a client identifies and authenticates itself, and the `secret` in them."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret: str = field(default="", repr=False)


def authenticate(spec: OauthTokenSpec | None, client_id: str, reader: ValueReader, now: datetime) -> Client:
    """Authenticate a client for one request, with the method of oauthToken. Raises LoginError."""
    identity = {"client_id": client_id}
    if spec is None or spec.authentication == "none":
        return Client(fields=identity)
    try:
        if spec.authentication == "private_key_jwt":
            assertion = _assertion(msgspec.structs.replace(spec, client_id=client_id), reader, now)
            fields = {"client_assertion_type": CLIENT_ASSERTION_TYPE, "client_assertion": assertion}
            return Client(fields=identity | fields, secret=assertion)
        secret = _read(reader, spec.client_secret_from).strip()
    except RefusedError as error:
        raise LoginError(str(error)) from None
    if spec.authentication == "client_secret_basic":
        return Client(headers={"Authorization": basic_authorization(client_id, secret)}, secret=secret)
    return Client(fields=identity | {"client_secret": secret}, secret=secret)


def _assertion(spec: OauthTokenSpec, reader: ValueReader, now: datetime) -> str:
    """Return a new assertion: one that the client signs, or a JWT of another issuer (RFC 7521 section 4.2)."""
    if source := spec.client_assertion_from:
        if source.service_account:
            return reader.create_token(source.service_account)
        if ref := source.secret_key_ref:
            return unwrap(reader.read(ref), f"clientAssertionFrom ({ref.description})")
        raise LoginError(
            "the client authenticates with a token of an earlier exchange (clientAssertionFrom.pipeline), which a"
            " sign-in does not have"
        )
    try:
        from keyturn.exchanges.client_assertion import signed_assertion  # noqa: PLC0415 - few clients sign
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "standalone") from None
    certificate = spec.client_certificate_from
    certificate_text = _read(reader, certificate) if certificate else None
    return signed_assertion(spec, _read(reader, spec.client_key_from), certificate_text, now)


def _read(reader: ValueReader, value: SecretValue | None) -> str:
    if value is None:
        raise LoginError("the TokenRequest refers to no client secret and no key")
    return reader.read(value.secret_key_ref)
