"""The template format."""

import re
from functools import lru_cache
from typing import Annotated, ClassVar

from msgspec import Meta

from keyturn.api.base import Key, Kind, Rule
from keyturn.api.formats.base import KEY_RULE, FormatOptions

# The names of placeholders, and the kind of value that an exchange must produce for each: None if no exchange is
# needed, or if only the response shows whether there is a value.
NAMES: dict[str, Kind | None] = {
    "accessToken": "token",
    "idToken": "token",
    "identityContext": "token",
    "tokenId": "token",
    "accessKeyId": "credentials",
    "secretAccessKey": "credentials",
    "sessionToken": "credentials",
    "principal": "credentials",
    "registryHost": "registryLogins",
    "registryUsername": "registryLogins",
    "registryPassword": "registryLogins",
    "packageEndpoint": "packageEndpoints",
    "identityId": None,
    "region": None,
    "expiration": None,
}
# The names of values that expire.
EXPIRING_NAMES = [
    name
    for name, kind in NAMES.items()
    if kind not in (None, "packageEndpoints") and name not in ("principal", "tokenId")
]
PLACEHOLDER = re.compile(r"\{\{ *([A-Za-z]+) *\}\}")
# Every {{ must start a placeholder with a known name: a misspelled one would be written to the Secret unchanged.
TEXT_PATTERN = rf"(?:[^{{]|\{{[^{{]|\{{\{{ *(?:{'|'.join(NAMES)}) *\}}\}})*\{{?"


class TemplateFormat(FormatOptions, frozen=True):
    """Custom text in which each placeholder {{ NAME }} is replaced by the value.

    There is no logic and no escaping: a value that contains characters other than letters, digits and -._~+/=:,@ is
    an error.
    """

    WRITES: ClassVar[tuple[Kind, ...]] = ()
    KEY: ClassVar[str] = ""

    key: Annotated[Key, Meta(description="Key of the Secret.")]
    text: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=16384,
            description=f"The text. NAME is one of {', '.join(NAMES)}. registryHost, registryUsername,"
            " registryPassword and packageEndpoint require an exchange that produces exactly one; region is"
            " spec.region.",
        ),
    ]

    RULES: ClassVar[tuple[Rule, ...]] = (
        KEY_RULE,
        Rule(
            message="text may contain {{ only in placeholders {{ NAME }}, where NAME is one of " + ", ".join(NAMES),
            cel=f"self.text.matches(r'^{TEXT_PATTERN}$')",
            is_met_by=lambda options: re.fullmatch(TEXT_PATTERN, options.text) is not None,
        ),
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the text, without duplicates."""
        return _names(self.text)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of value in the text."""
        kinds = (NAMES[name] for name in self.names)
        return tuple(dict.fromkeys(kind for kind in kinds if kind))

    @property
    def has_expiring_value(self) -> bool:
        """Whether the text contains a value that expires."""
        return not {*self.names}.isdisjoint(EXPIRING_NAMES)

    @property
    def keys(self) -> tuple[str, ...]:
        """The key that the format writes."""
        return (self.key,)


# The rules of the API ask for the names of each text several times.
@lru_cache(maxsize=32)
def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(PLACEHOLDER.findall(text)))
