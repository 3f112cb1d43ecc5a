"""The base of all API types: strict, frozen structs, with rules that are written in CEL and in Python."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec
from msgspec import Meta

GROUP = "keyturn.dev"

# The limit for the name of an object, and for a key in a Secret.
MAX_NAME_LENGTH = 253
# Schema keyword with a description, in words, of what the pattern accepts.
EXPECTATION = "x-expectation"


def matching(
    pattern: str,
    expectation: str,
    *,
    min_length: int | None = None,
    max_length: int | None = None,
    description: str | None = None,
) -> Meta:
    r"""Return the constraints of a string field. Instead of the pattern, messages say that it "must be" `expectation`.

    A pattern ends in \Z, because Python's $ also matches before a newline at the end. In RE2, \Z is written as $.
    """
    return Meta(
        pattern=pattern,
        min_length=min_length,
        max_length=max_length,
        description=description,
        extra_json_schema={EXPECTATION: expectation},
    )


NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z"
_NAME = (
    NAME_PATTERN,
    "lower-case letters, digits, '-' and '.', with a letter or digit before and after each '.' and at both ends",
)
Name = Annotated[str, matching(*_NAME, min_length=1, max_length=MAX_NAME_LENGTH)]
# Shorter, because the name of the token Secret adds the suffix -keyturn.
ConsumedSecretName = Annotated[str, matching(*_NAME, min_length=1, max_length=245)]
Key = Annotated[
    str,
    matching(
        r"^\.?[-_A-Za-z0-9][-._A-Za-z0-9]*\Z",
        "letters, digits, '-', '_' and '.', but not only '.', and without '..' at the start",
        min_length=1,
        max_length=MAX_NAME_LENGTH,
    ),
]
# Namespace and name of an object.
NamespacedName = tuple[str, str]
Region = Annotated[
    str,
    matching(
        r"^[a-z0-9]+(-[a-z0-9]+)*\Z",
        "the name of a region, such as us-east-1: lower-case letters and digits, with '-' between them",
        min_length=1,
        max_length=63,
    ),
]

# Letters, separators and digits of any language: AWS and RE2 write \p{L}\p{Z}\p{N}, which Python's re does not support.
TEXT = r"\w \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
TEXT_IN_RE2 = r"\p{L}\p{Z}\p{N}"


def in_re2(pattern: str) -> str:
    """Return a pattern in the syntax of RE2, which the API server uses."""
    return pattern.replace(r"\Z", "$").replace(TEXT, TEXT_IN_RE2)


# The kinds of value in the pipeline: exchanges require and produce them, formats write them.
Kind = Literal["token", "credentials", "registryLogins", "packageEndpoints"]


class InvalidSpecError(ValueError):
    """A TokenRequest that breaks the schema or a rule. `message` is one line and ends with the path of the field."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Rule(NamedTuple):
    """A rule between fields: the message for the user, and the same condition in CEL (`self`) and in Python."""

    message: str
    cel: str
    is_met_by: Callable[[Any], bool]

    @property
    def is_of_union(self) -> bool:
        """Whether the rule is that of a union: exactly one of its members must be set."""
        return self.message.startswith(_EXACTLY_ONE)


_EXACTLY_ONE = "exactly one of "
# Set by keyturn check, which reports all broken rules: it evaluates them itself.
ARE_RULES_DEFERRED: ContextVar[bool] = ContextVar("ARE_RULES_DEFERRED", default=False)


# gc=False, here and in other structs of which there is one per TokenRequest: they cannot be part of a reference cycle,
# and a collection that scans 100,000 requests stops everything for seconds.
class ApiStruct(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of all API types. Unknown fields are errors: ignoring one could grant more than the user intended."""

    RULES: ClassVar[tuple[Rule, ...]] = ()
    # If set, the CRD evaluates each group of RULES as one rule, with these CEL expressions bound to names.
    RULE_GROUPS: ClassVar[tuple[tuple[Rule, ...], ...]] = ()
    CEL_VARIABLES: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        """Raise the message of the first broken rule; msgspec adds the path in a ValidationError."""
        for rule in () if ARE_RULES_DEFERRED.get() else self.RULES:
            if not rule.is_met_by(self):
                raise ValueError(rule.message)


def without_nulls(value: Any) -> Any:
    """Return the manifest without null fields, which the API server drops as well."""
    if isinstance(value, Mapping):
        return {key: without_nulls(child) for key, child in value.items() if child is not None}
    return [without_nulls(child) for child in value] if isinstance(value, list) else value


def api_structs(base: type[ApiStruct] = ApiStruct) -> Iterator[type[ApiStruct]]:
    """Yield all API types."""
    for struct in base.__subclasses__():
        yield struct
        yield from api_structs(struct)


def member_in_cel(names: Iterable[str], union: str) -> str:
    """Return the CEL expression for the name of the member that is set in a union."""
    return " : ".join(f"has({union}.{name}) ? '{name}'" for name in names) + " : ''"


def member_name(union: ApiStruct) -> str:
    """Return the name of the member that is set in a union, as in a manifest."""
    names = zip(union.__struct_fields__, union.__struct_encode_fields__, strict=True)
    return next(encoded for name, encoded in names if getattr(union, name) is not None)


def exactly_one_of(*names: str) -> Rule:
    """Return the rule of a union whose members are all of the type's fields."""
    has = [f"has(self.{name})" for name in names]
    return Rule(
        message=f"{_EXACTLY_ONE}{', '.join(names)} must be set",
        cel=" != ".join(has) if len(has) == 2 else f"[{', '.join(has)}].filter(x, x).size() == 1",  # noqa: PLR2004
        is_met_by=lambda union: sum(value is not None for value in msgspec.structs.astuple(union)) == 1,
    )
