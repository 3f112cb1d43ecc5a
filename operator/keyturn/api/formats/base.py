"""What all formats share: the kinds of value that they hold, and the keys of the Secret that they write."""

from typing import ClassVar

from keyturn.api.base import ApiStruct, Key, Kind, Rule

ENV_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION")
RESERVED_KEYS = (*ENV_KEYS, "expiration")

key_is_free = Rule(
    message=f"key must not be one of {', '.join(RESERVED_KEYS)}",
    cel=f"!has(self.key) || !(self.key in {list(RESERVED_KEYS)})",
    is_met_by=lambda it: it.key not in RESERVED_KEYS,
)


class FormatOptions(ApiStruct, frozen=True):
    """What every format tells of itself. `KEY` is the key that it writes where none is asked for."""

    WRITES: ClassVar[tuple[Kind, ...]] = ("credentials",)
    KEY: ClassVar[str]

    @property
    def holds(self) -> tuple[Kind, ...]:
        """The kinds of value that are in what it writes."""
        return self.WRITES

    @property
    def ends(self) -> bool:
        """Whether what it writes has an end: else there would be nothing to renew."""
        return bool(self.WRITES)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the Secret that it may write."""
        return (self.KEY,)


class FileFormatOptions(FormatOptions, frozen=True):
    """A format that writes one key, which may be another than its own."""

    key: Key | None = None

    RULES: ClassVar[tuple[Rule, ...]] = (key_is_free,)

    @property
    def keys(self) -> tuple[str, ...]:
        """The one key that it writes."""
        return (self.key or self.KEY,)
