"""What all operations share."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from keyturn.api.base import ApiStruct, Kind, Region
from keyturn.api.source import BundleValue, SecretKeyRef, SecretValue

# What a step may be given that works only once.
PROOFS = ("codeFrom", "assertionFrom", "tokenCodeFrom")

ReadFrom = Annotated[
    Literal["accessToken", "idToken"],
    Meta(
        description="Which token goes on: the newest access token (or the source's; the default), or the ID token"
        " of an exchange before."
    ),
]


class ExchangeSpec(ApiStruct, frozen=True):
    """What every operation tells of itself: the kinds of value that it needs and gives.

    `NEEDS_IF` has a condition (CEL, the step is {0}) for kinds that are needed by some grants only; `needs` says
    the same in Python. `DEFAULT_SECONDS` is the lifetime that AWS gives where none is asked for, None where it
    cannot be chosen. `CONSUMES` is the condition (CEL) under which the step spends the source token, `USES_UP` the
    one of `uses_up_token`. `IS_ROLE`: it gives the session of a role; `FOR_USERS_ONLY`: it takes only the keys of
    an IAM user.
    """

    REQUIRES: ClassVar[tuple[Kind, ...]] = ("token",)
    REQUIRES_IF: ClassVar[Mapping[Kind, str]] = {}
    PRODUCES: ClassVar[tuple[Kind, ...]] = ("credentials",)
    PRODUCES_ID_TOKEN: ClassVar[bool] = False
    DEFAULT_SECONDS: ClassVar[int | None] = None
    CONSUMES: ClassVar[str] = ""
    CONSUMES_TOKEN: ClassVar[str] = ""
    IS_ROLE: ClassVar[bool] = False
    FOR_USERS_ONLY: ClassVar[bool] = False

    @property
    def needs(self) -> tuple[Kind, ...]:
        """The kinds of value that this very step needs."""
        return self.REQUIRES

    @property
    def consumes(self) -> bool:
        """Whether the answer may replace the source token: what was sent is then spent."""
        return False

    @property
    def proof(self) -> SecretValue | None:
        """What the step is given that works only once, such as an authorization code."""
        # Not structs.fields: it evaluates all annotations at each call.
        names = zip(self.__struct_fields__, self.__struct_encode_fields__, strict=True)
        given = (getattr(self, name) for name, written in names if written in PROOFS)
        return next((value for value in given if value), None)

    @property
    def once(self) -> bool:
        """Whether the step works only once, with a proof of its own."""
        return self.proof is not None

    @property
    def consumes_token(self) -> bool:
        """Whether the token that the step reads works only once here: what is answered for it goes on instead."""
        return False

    @property
    def party(self) -> str:
        """Who takes what the step uses up, and answers what goes on in its place: nobody else may see that."""
        return ""

    @property
    def references(self) -> tuple[SecretKeyRef, ...]:
        """Where the step's own secrets are."""
        values = msgspec.structs.astuple(self)
        refs = (v.secret_key_ref for v in values if isinstance(v, SecretValue | BundleValue))
        return tuple(ref for ref in refs if ref)


class AwsExchangeSpec(ExchangeSpec, frozen=True):
    """An operation of AWS, in a region."""

    region: Annotated[Region, Meta(description="AWS region of this exchange. Default: spec.region.")] | None = None
