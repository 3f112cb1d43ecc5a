"""What all operations share."""

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from keyturn.core.model.part import Kind, Part, Region
from keyturn.core.model.source import SecretValue


class Operation(Part, frozen=True):
    """What every operation tells of itself: the kinds of value that it needs and gives.

    `DEFAULT_SECONDS` is the lifetime that AWS gives where none is asked for, None where it cannot be chosen.
    `IS_ROLE`: it gives the session of a role; `FOR_USERS_ONLY`: it takes only the keys of an IAM user.
    """

    NEEDS: ClassVar[tuple[Kind, ...]] = ("token",)
    GIVES: ClassVar[tuple[Kind, ...]] = ("credentials",)
    DEFAULT_SECONDS: ClassVar[int | None] = None
    IS_ROLE: ClassVar[bool] = False
    FOR_USERS_ONLY: ClassVar[bool] = False

    @property
    def consumes(self) -> bool:
        """Whether the answer may replace the source token: what was sent is then spent."""
        return False

    @property
    def once(self) -> bool:
        """Whether it works only once, with what it was given: that is spent with the call."""
        return False

    @property
    def references(self) -> tuple[SecretValue, ...]:
        """The step's own secrets."""
        return tuple(v for v in msgspec.structs.astuple(self) if isinstance(v, SecretValue))


class AwsOperation(Operation, frozen=True):
    """An operation of AWS, in a region."""

    region: Annotated[Region, Meta(description="AWS region of this exchange. Default: spec.region.")] | None = None
