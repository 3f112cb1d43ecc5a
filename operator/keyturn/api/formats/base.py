"""What all format types share: the kinds of value and the keys that they write."""

from typing import ClassVar

from keyturn.api.base import ApiStruct, Key, Kind, Rule

# boto3 and the AWS CLI read AWS_DEFAULT_REGION, the other SDKs AWS_REGION.
REGION_KEYS = ("AWS_REGION", "AWS_DEFAULT_REGION")
ENV_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", *REGION_KEYS)
RESERVED_KEYS = [*ENV_KEYS, "expiration"]

KEY_RULE = Rule(
    message=f"key must not be one of the reserved keys {', '.join(RESERVED_KEYS)}",
    cel=f"!has(self.key) || !(self.key in {RESERVED_KEYS})",
    is_met_by=lambda options: options.key not in RESERVED_KEYS,
)


class FormatOptions(ApiStruct, frozen=True):
    """Base of all formats. `WRITES` is empty if the kinds depend on the options; `KEY` is the default key."""

    WRITES: ClassVar[tuple[Kind, ...]] = ("credentials",)
    KEY: ClassVar[str]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of value that the format contains."""
        return self.WRITES

    @property
    def has_expiring_value(self) -> bool:
        """Whether the format contains a value that expires. Otherwise there would be nothing to renew."""
        return bool(self.WRITES)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the Secret that the format may write."""
        return (self.KEY,)


class FileFormatOptions(FormatOptions, frozen=True):
    """A format that writes one key, whose name can be changed."""

    key: Key | None = None

    RULES: ClassVar[tuple[Rule, ...]] = (KEY_RULE,)

    @property
    def keys(self) -> tuple[str, ...]:
        """The key that the format writes."""
        return (self.key or self.KEY,)
