"""Faults: how the next calls of an operation fail."""

from typing import Literal

import msgspec


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the next `times` calls of an operation fail; None means every call until the faults are cleared.

    `code` returns an error of AWS or OAuth, with HTTP 400 unless `status` is set. `status` or `body` alone returns
    what a proxy would. `drop` closes the connection before the operation runs, or after it: the response is lost.
    `expired` issues what has already expired. Only for OAuth, `without` omits a member of the response and
    `token_characters` pads the access token.
    """

    operation: str
    times: int | None = 1
    code: str = ""
    message: str = "injected fault"
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
            raise ValueError("`without` and `token_characters` apply to OAuth only")


def next_fault(faults: list[Fault], operation: str) -> Fault:
    """Return the oldest fault of this operation and count it down; without one, a fault that does nothing."""
    for index, fault in enumerate(faults):
        if fault.operation == operation:
            if fault.times == 1:
                del faults[index]
            elif fault.times is not None:
                faults[index] = msgspec.structs.replace(fault, times=fault.times - 1)
            return fault
    return Fault(operation)
