"""The credentials that the sidecar serves, as the AWS container credentials provider expects them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

DEFAULT_KEY = "credentials.json"
# Four times as many as the longest session token that Keyturn writes. Each response contains the credentials, and JSON
# takes up to 28 times as much memory when it is parsed.
_MAX_CHARACTERS = 128 * 1024


class NoCredentialsError(Exception):
    """There are no valid credentials to serve. The message is the reason and contains no secret."""


@dataclass(frozen=True, slots=True)
class ServedCredentials:
    """Credentials that expire. `document` is the body of the endpoint's response, as JSON."""

    access_key_id: str
    expires_at: datetime
    document: bytes = field(repr=False)

    @property
    def expiration(self) -> str:
        """The expiration time in the form that every SDK parses."""
        return _rfc3339(self.expires_at)


@dataclass(slots=True)
class CredentialCache:
    """The latest credentials, served until they expire.

    `failure` is the reason why there are no newer credentials, or "". A failure never removes valid credentials.
    """

    now: Callable[[], datetime]
    credentials: ServedCredentials | None = None
    failure: str = "no credentials have been read yet"

    def publish(self, credentials: ServedCredentials) -> None:
        """Replace the credentials."""
        self.credentials = credentials

    def document(self) -> bytes:
        """Return the body of the endpoint's response; raises NoCredentialsError if no credentials are valid."""
        if self.credentials is None:
            raise NoCredentialsError(self.failure or "no credentials are available yet")
        if self.credentials.expires_at <= self.now():
            reason = self.failure or "no newer credentials are available"
            raise NoCredentialsError(f"the credentials expired at {self.credentials.expiration}; {reason}")
        return self.credentials.document

    def why_unavailable(self) -> str:
        """Return why no credentials are valid, or "" if they are."""
        try:
            self.document()
        except NoCredentialsError as error:
            return str(error)
        return ""


def parse_credentials(data: Mapping[str, str], key: str = DEFAULT_KEY) -> ServedCredentials:
    """Parse the data of a Secret: the credential process document in `key`, or else the environment variables.

    Raises NoCredentialsError if the data is incomplete or malformed, does not expire, or has no session token.
    """
    fields = _fields(data, key)
    for name in ("AccessKeyId", "SecretAccessKey", "Token", "Expiration"):
        if not fields.get(name):
            raise NoCredentialsError(f"the credentials have no {name}")
    try:
        expires_at = datetime.fromisoformat(fields["Expiration"])
        if expires_at.tzinfo is None:
            raise NoCredentialsError("the credentials' expiration has no time zone")
        expires_at = expires_at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise NoCredentialsError("the credentials' expiration is not an RFC 3339 time") from None
    fields["Expiration"] = _rfc3339(expires_at)
    return ServedCredentials(fields["AccessKeyId"], expires_at, json.dumps(fields).encode())


def _fields(data: Mapping[str, str], key: str) -> dict[str, str]:
    """Return the members of the endpoint's response, as far as the data contains them."""
    variables = {"AccessKeyId": "AWS_ACCESS_KEY_ID", "SecretAccessKey": "AWS_SECRET_ACCESS_KEY",
                 "Token": "AWS_SESSION_TOKEN", "Expiration": "expiration"}  # fmt: skip
    texts = [data[name] for name in ((key,) if key in data else variables.values()) if name in data]
    if sum(map(len, texts)) > _MAX_CHARACTERS:
        raise NoCredentialsError(f"the credentials have more than {_MAX_CHARACTERS} characters")
    if key not in data:
        return {name: data[variable].strip() for name, variable in variables.items() if variable in data}
    try:
        document = json.loads(data[key])
    except (ValueError, RecursionError):
        raise NoCredentialsError(f"key {key} is not valid JSON") from None
    if not isinstance(document, dict):
        raise NoCredentialsError(f"key {key} is not a JSON object")
    names = {"AccessKeyId": "AccessKeyId", "SecretAccessKey": "SecretAccessKey", "Token": "SessionToken",
             "Expiration": "Expiration"}  # fmt: skip
    return {name: value for name, member in names.items() if isinstance(value := document.get(member), str)}


def _rfc3339(time: datetime) -> str:
    # The SDKs for JavaScript and Rust reject +00:00.
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
