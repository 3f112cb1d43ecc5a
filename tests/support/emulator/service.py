"""What an operation is given, and how it refuses."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

import botocore.loaders
from botocore.model import OperationModel, ServiceModel, StructureShape

from tests.support.emulator import model_validation as shapes
from tests.support.emulator.protocols import WIRES, Signed, Wire
from tests.support.emulator.state import AccessKey, State
from tests.support.emulator.tokens import in_seconds


@dataclass(frozen=True, slots=True)
class Call:
    """One call at one moment, in one region; `caller` is None where nobody signed, and the region then our own."""

    world: State
    params: dict[str, Any] = field(repr=False)
    caller: AccessKey | None
    now: datetime
    region: str
    expired: bool = False

    @property
    def signer(self) -> AccessKey:
        """The caller of a signed operation."""
        if self.caller is None:
            raise TypeError("this operation is signed")
        return self.caller

    def expiry(self, seconds: float) -> datetime:
        """Tell when something issued now for so long ends; a fault may want it already over."""
        return in_seconds(self.now, -60 if self.expired else seconds)


class Service:
    """One AWS service: its model, its operations, and where it is stricter than its model."""

    def __init__(
        self,
        name: str,
        operations: dict[str, Callable[[Call], dict[str, Any]]],
        stricter: shapes.Limits = MappingProxyType({}),
        may_be_unsigned: frozenset[str] = frozenset(),
        at_home: frozenset[str] = frozenset(),
        prefix: str = "",
    ) -> None:
        self.name, self.operations = name, operations
        self.stricter, self.may_be_unsigned, self.at_home = stricter, may_be_unsigned, at_home
        self._prefix = prefix
        self.model = ServiceModel(botocore.loaders.Loader().load_service_model(name, "service-2"), name)
        self.wire: Wire = WIRES[self.model.metadata["protocol"]]

    def operation(self, name: str) -> OperationModel:
        return self.model.operation_model(name)

    def label(self, operation: str) -> str:
        """Name an operation where those of all services are: in counts and faults."""
        return self._prefix + operation

    def read(self, operation: str, signed: Signed) -> dict[str, Any]:
        """Read the parameters; what breaks the model is the service's own validation error."""
        shape = self.operation(operation).input_shape
        params = self.wire.read(shape, signed)
        found = list(shapes.problems(shape, params, "", self.stricter)) if shape else []
        if found:
            one_or_more = f"{len(found)} validation error{'s'[: len(found) > 1]} detected: "
            raise self.wire.refusal("invalid", one_or_more + "; ".join(found))
        return params

    def write(self, operation: str, answer: dict[str, Any], request_id: str) -> bytes:
        """Write the answer; one that AWS could not give is our bug and raises ValueError."""
        shape = self.operation(operation).output_shape
        found = list(shapes.problems(shape or _NOTHING, answer, "", self.stricter))
        if found:
            raise ValueError(f"the answer of {operation} breaks its model: {found}")
        return self.wire.write(operation, shape, answer, request_id)


_NOTHING = StructureShape("Nothing", {"type": "structure", "members": {}})
