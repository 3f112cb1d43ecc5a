"""Credentials and tokens become the files that tools read. Each format has its own escaper."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime

from keyturn.core.holding import Credentials, Holding, Token, safe
from keyturn.core.model.formats import CredentialsFileFormat, Format
from keyturn.core.model.part import Kind


def render(formats: tuple[Format, ...], holding: Holding, region: str | None) -> dict[str, str]:
    """Write what is held in each of the formats, and `expiration`: the data of the Secret."""
    data: dict[str, str] = {}
    for wanted in formats:
        data |= _RENDERERS[wanted.name](wanted, holding, region)
    ends = expiry(formats, holding)
    return data | ({"expiration": rfc3339(ends)} if ends else {})


def expiry(formats: tuple[Format, ...], holding: Holding) -> datetime | None:
    """The earliest expiry among the values that the formats hold."""
    ends = [_expiry(kind, holding) for wanted in formats for kind in wanted.options.HOLDS]
    return min((end for end in ends if end), default=None)


def rfc3339(moment: datetime) -> str:
    """Write a UTC time as every SDK reads it: whole seconds and a Z (JavaScript and Rust refuse +00:00)."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _credentials(holding: Holding) -> Credentials:
    if holding.credentials is None:
        message = "a format holds credentials, and no exchange gives them; the rules of the API refuse that"
        raise AssertionError(message)
    return holding.credentials


def _expiry(kind: Kind, holding: Holding) -> datetime | None:
    return _credentials(holding).expires_at if kind == "credentials" else holding.newest_token.expires_at


def _env(_: Format, holding: Holding, region: str | None) -> dict[str, str]:
    held = _credentials(holding)
    return {
        "AWS_ACCESS_KEY_ID": held.access_key_id,
        "AWS_SECRET_ACCESS_KEY": held.secret_access_key,
        **({"AWS_SESSION_TOKEN": held.session_token} if held.session_token else {}),
        **({"AWS_REGION": region} if region else {}),
    }


def _credential_process(wanted: Format, holding: Holding, _: str | None) -> dict[str, str]:
    held = _credentials(holding)
    fields = {
        "Version": 1,
        "AccessKeyId": held.access_key_id,
        "SecretAccessKey": held.secret_access_key,
        **({"SessionToken": held.session_token} if held.session_token else {}),
        **({"Expiration": rfc3339(held.expires_at)} if held.expires_at else {}),
    }
    return {wanted.options.keys[0]: json.dumps(fields)}


def _credentials_file(wanted: Format, holding: Holding, _: str | None) -> dict[str, str]:
    held, options = _credentials(holding), wanted.options
    profile = options.profile if isinstance(options, CredentialsFileFormat) else None
    lines = [
        f"[{profile or 'default'}]",
        f"aws_access_key_id = {held.access_key_id}",
        f"aws_secret_access_key = {held.secret_access_key}",
        *([f"aws_session_token = {held.session_token}"] if held.session_token else []),
    ]
    return {options.keys[0]: "\n".join(lines) + "\n"}


def _token(wanted: Format, holding: Holding, _: str | None) -> dict[str, str]:
    token: Token = holding.newest_token
    # No newline: a Go, Java, JavaScript or Rust SDK refuses a token file that ends in one.
    return {wanted.options.keys[0]: safe(token.value, "the token")}


_RENDERERS: Mapping[str, Callable[[Format, Holding, str | None], dict[str, str]]] = {
    "env": _env,
    "credentialProcess": _credential_process,
    "credentialsFile": _credentials_file,
    "token": _token,
}
