"""What goes wrong on purpose."""

from typing import Literal

import msgspec


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the next calls of one operation go wrong; `times` None is until cleared.

    With `code` the answer is an error of AWS or OAuth (HTTP 400 if no `status` is given); with `status` or
    `body` alone it is what a proxy in between would say. `drop` cuts the connection before the operation
    happens, or after it: the lost answer. `expired` lets it happen, but what it issues is already over.
    Of OAuth answers `without` leaves a member out, and `token_characters` makes the access token long.
    """

    operation: str
    times: int | None = 1
    code: str = ""
    message: str = "told to fail"
    members: dict[str, str] = {}
    headers: dict[str, str] = {}
    status: int = 0
    body: Literal["", "html", "empty"] = ""
    drop: Literal["", "before", "after"] = ""
    delay_seconds: float = 0
    clock_offset_seconds: float = 0
    expired: bool = False
    without: str = ""
    token_characters: int = 0

    def __post_init__(self) -> None:
        if (self.without or self.token_characters) and not self.operation.startswith("oauth:"):
            raise ValueError("only OAuth answers can be without a member or have long tokens")


class Faults:
    """The faults that wait, each for calls of its operation, the oldest first."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._waiting.append(fault)

    def clear(self) -> None:
        self._waiting.clear()

    def take(self, operation: str) -> Fault:
        """Use up one time of the oldest fault for this operation; without one nothing goes wrong."""
        for index, fault in enumerate(self._waiting):
            if fault.operation == operation:
                self._use(index, fault)
                return fault
        return Fault(operation)

    def _use(self, index: int, fault: Fault) -> None:
        if fault.times == 1:
            del self._waiting[index]
        elif fault.times is not None:
            self._waiting[index] = msgspec.structs.replace(fault, times=fault.times - 1)
