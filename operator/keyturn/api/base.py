"""What every part of the API is made of: a strict frozen Struct, and rules told once for CEL and Python."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec
from msgspec import Meta

GROUP = "keyturn.dev"

# Patterns end in \Z, which the CRD shows as $: Python's $ would let a newline at the end pass.
Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z",
    ),
]
Key = Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^\.?[-_A-Za-z0-9][-._A-Za-z0-9]*\Z")]
Region = Annotated[str, Meta(min_length=1, max_length=63, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*\Z")]

# Letters, separators and digits of any language: AWS and RE2 say \p{L}\p{Z}\p{N}, which Python's re cannot.
TEXT = r"\w \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
TEXT_IN_RE2 = r"\p{L}\p{Z}\p{N}"

# What travels the pipeline: what operations need and give, and formats hold.
Kind = Literal["token", "credentials", "registryLogins", "packageEndpoints"]


class Rule(NamedTuple):
    """A law between fields: the sentence that the user reads, for the API server in CEL, for Python as a test."""

    message: str
    cel: str
    is_met_by: Callable[[Any], bool]


class ApiStruct(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of the parts of the API. Unknown fields are refused: dropping one could grant more than was asked."""

    RULES: ClassVar[tuple[Rule, ...]] = ()
    # Rules of which the CRD makes one: what they read is in SHARED, in CEL, by the name that they know it by.
    TOGETHER: ClassVar[tuple[tuple[Rule, ...], ...]] = ()
    SHARED: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        """Refuse what breaks a rule; msgspec turns the ValueError into a ValidationError with the path."""
        for rule in self.RULES:
            if not rule.is_met_by(self):
                raise ValueError(rule.message)


def without_nulls(value: Any) -> Any:
    """Drop the fields of a manifest that are null, as the API server does."""
    if isinstance(value, Mapping):
        return {key: without_nulls(it) for key, it in value.items() if it is not None}
    return [without_nulls(it) for it in value] if isinstance(value, list) else value


def api_structs(of: type[ApiStruct] = ApiStruct) -> Iterator[type[ApiStruct]]:
    """All parts of the API."""
    for part in of.__subclasses__():
        yield part
        yield from api_structs(part)


def member_in_cel(names: Iterable[str], of: str) -> str:
    """The name of the one member that a union has, in CEL."""
    return " : ".join(f"has({of}.{name}) ? '{name}'" for name in names) + " : ''"


def member_name(union: ApiStruct) -> str:
    """The name of the one member that a union has, as in a manifest."""
    names = zip(union.__struct_fields__, union.__struct_encode_fields__, strict=True)
    return next(written for name, written in names if getattr(union, name) is not None)


def exactly_one_of(*names: str) -> Rule:
    """Refuse a union with no member or with two."""
    members = ", ".join(f"has(self.{name})" for name in names)
    return Rule(
        message=f"give exactly one of {', '.join(names)}",
        cel=f"[{members}].filter(x, x).size() == 1",
        is_met_by=lambda part: sum(value is not None for value in msgspec.structs.astuple(part)) == 1,
    )
