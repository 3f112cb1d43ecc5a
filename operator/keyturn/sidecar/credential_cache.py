"""What the SDKs in a pod are given: credentials that have not expired, as the container endpoint tells them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

KEY = "credentials.json"


class UnservableError(Exception):
    """There is nothing that an SDK may be given now; the message says why, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Served:
    """Credentials and their end. `document` is the answer of the container endpoint, ready to be sent."""

    access_key_id: str
    expires_at: datetime
    document: bytes = field(repr=False)

    @property
    def ends(self) -> str:
        """The end, as every SDK reads it."""
        return _told(self.expires_at)


@dataclass(slots=True)
class Held:
    """The credentials that are served now. What replaces them does so at once; trouble never does."""

    now: Callable[[], datetime]
    served: Served | None = None
    trouble: str = "no credentials were read yet"

    def document(self) -> bytes:
        """The answer to an SDK; raises UnservableError, with what is the trouble, where nothing valid is held."""
        if self.served is None:
            raise UnservableError(self.trouble or "no credentials came yet")
        if self.served.expires_at <= self.now():
            raise UnservableError(
                f"the credentials expired at {self.served.ends}; {self.trouble or 'no newer ones came'}"
            )
        return self.served.document


def served(data: Mapping[str, str], key: str = KEY) -> Served:
    """Read credentials from the data of a Secret: the file of a credential process, else the variables.

    Raises UnservableError for what is missing, half-written, without an end, or no session's.
    """
    fields = _of_process(data[key]) if key in data else _of_variables(data)
    for name in ("AccessKeyId", "SecretAccessKey", "Token", "Expiration"):
        if not fields.get(name):
            raise UnservableError(f"the credentials have no {name}")
    expires_at = _moment(fields["Expiration"])
    fields["Expiration"] = _told(expires_at)
    return Served(fields["AccessKeyId"], expires_at, json.dumps(fields).encode())


def _told(moment: datetime) -> str:
    # JavaScript and Rust refuse +00:00.
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise UnservableError("the expiration has no time zone")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UnservableError("the expiration is not a time of RFC 3339") from None


def _of_process(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise UnservableError("the file of the credential process is not JSON") from None
    if not isinstance(found, dict):
        raise UnservableError("the file of the credential process is not a JSON object")
    names = {"AccessKeyId": "AccessKeyId", "SecretAccessKey": "SecretAccessKey", "Token": "SessionToken",
             "Expiration": "Expiration"}  # fmt: skip
    return {ours: value for ours, theirs in names.items() if isinstance(value := found.get(theirs), str)}


def _of_variables(data: Mapping[str, str]) -> dict[str, str]:
    names = {"AccessKeyId": "AWS_ACCESS_KEY_ID", "SecretAccessKey": "AWS_SECRET_ACCESS_KEY",
             "Token": "AWS_SESSION_TOKEN", "Expiration": "expiration"}  # fmt: skip
    return {ours: data[theirs].strip() for ours, theirs in names.items() if theirs in data}
