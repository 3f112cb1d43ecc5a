"""A file of the user's own, with the names of what travels in it."""

import re
from collections.abc import Iterable
from typing import Annotated, ClassVar

from msgspec import Meta

from keyturn.api.base import Key, Kind, Rule
from keyturn.api.formats.base import FormatOptions, key_is_free

# By name in a text: the kind of value that an exchange must give, None where that is not known before.
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
# What of them has an end of its own; the others are facts.
ENDING = tuple(
    name
    for name, kind in NAMES.items()
    if kind not in (None, "packageEndpoints") and name not in ("principal", "tokenId")
)
PLACE = re.compile(r"\{\{ *([A-Za-z]+) *\}\}")
# Every {{ begins a known name: a misspelt one would be written as it is, and found out by the tool that reads it.
_TEXT = rf"(?:[^{{]|\{{[^{{]|\{{\{{ *(?:{'|'.join(NAMES)}) *\}}\}})*\{{?"


class TemplateFormat(FormatOptions, frozen=True):
    """A text of your own: each {{ name }} in it becomes that value, once, as it is, and nothing else changes.

    There is no logic and no escaping: a value with more than letters, digits and -._~+/=:,@ is refused.
    """

    WRITES: ClassVar[tuple[Kind, ...]] = ()
    KEY: ClassVar[str] = ""

    key: Annotated[Key, Meta(description="Under which key of the Secret.")]
    text: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=16384,
            description=f"At most 16384 characters. The names: {', '.join(NAMES)}. Those of a registry and of a "
            "packageEndpoint need an exchange that produces exactly one, and region is spec.region.",
        ),
    ]

    RULES: ClassVar[tuple[Rule, ...]] = (
        key_is_free,
        Rule(
            message=f"in text, {{{{ may only begin {{{{ NAME }}}}, with a NAME of {', '.join(NAMES)}",
            cel=f"self.text.matches(r'^{_TEXT}$')",
            is_met_by=lambda it: re.fullmatch(_TEXT, it.text) is not None,
        ),
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the text, each once."""
        return tuple(dict.fromkeys(PLACE.findall(self.text)))

    @property
    def holds(self) -> tuple[Kind, ...]:
        """The kinds of value that the text names."""
        kinds = (NAMES[name] for name in self.names)
        return tuple(dict.fromkeys(kind for kind in kinds if kind))

    @property
    def ends(self) -> bool:
        """Whether the text names a value that has an end."""
        return not {*self.names}.isdisjoint(ENDING)

    @property
    def keys(self) -> tuple[str, ...]:
        """The one key that it writes."""
        return (self.key,)


def names_in_cel(names: Iterable[str]) -> str:
    """The test whether the text of a template `f` has one of the names, in CEL."""
    return f"f.template.text.matches(r'\\{{\\{{ *(?:{'|'.join(names)}) *\\}}\\}}')"
