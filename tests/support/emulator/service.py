"""What an operation receives, and the services that operations belong to."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import botocore.loaders
from botocore.model import OperationModel, ServiceModel, StructureShape

from tests.support.emulator.model_validation import Constraints, violations
from tests.support.emulator.protocols import PROTOCOLS, IncomingRequest, WireProtocol
from tests.support.emulator.state import AccessKey, State
from tests.support.emulator.tokens import in_seconds

_NO_OUTPUT = StructureShape("NoOutput", {"type": "structure", "members": {}})


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operation; `caller` is None for an unsigned request, whose region is the home region."""

    state: State
    params: dict[str, Any] = field(repr=False)
    caller: AccessKey | None
    now: datetime
    region: str
    expired: bool = False

    @property
    def signer(self) -> AccessKey:
        """The caller of an operation that must be signed."""
        if self.caller is None:
            raise TypeError("the operation must be signed")
        return self.caller

    def expiry(self, seconds: float) -> datetime:
        """Return when something issued now expires; with the fault `expired`, a time in the past."""
        return in_seconds(self.now, -60 if self.expired else seconds)


@dataclass(frozen=True, eq=False)
class Service:
    """An AWS service: its operations, and the constraints of its documentation that its model lacks.

    `unsigned_allowed` are operations that check a signature only if there is one, `home_region_only` those that
    redirect from other regions. `prefix` distinguishes operations of the same name in counts and faults.
    """

    name: str
    operations: dict[str, Callable[[Call], dict[str, Any]]]
    constraints: Constraints = field(default_factory=dict)
    unsigned_allowed: frozenset[str] = frozenset()
    home_region_only: frozenset[str] = frozenset()
    prefix: str = ""

    @cached_property
    def model(self) -> ServiceModel:
        return ServiceModel(botocore.loaders.Loader().load_service_model(self.name, "service-2"), self.name)

    @property
    def protocol(self) -> WireProtocol:
        return PROTOCOLS[self.model.metadata["protocol"]]

    def operation(self, name: str) -> OperationModel:
        return self.model.operation_model(name)

    def label(self, operation: str) -> str:
        """Return the name of an operation in counts and faults."""
        return self.prefix + operation

    def parse(self, operation: str, request: IncomingRequest) -> dict[str, Any]:
        """Parse and validate the parameters; raises the validation error of the service."""
        shape = self.operation(operation).input_shape
        params = self.protocol.parse(shape, request)
        problems = list(violations(shape, params, "", self.constraints)) if shape else []
        if problems:
            plural = "s" if len(problems) > 1 else ""
            message = f"{len(problems)} validation error{plural} detected: {'; '.join(problems)}"
            raise self.protocol.common_error("invalid", message)
        return params

    def serialize(self, operation: str, output: dict[str, Any], request_id: str) -> bytes:
        """Serialize the output; raises ValueError if AWS could not have returned it: a bug of the emulator."""
        shape = self.operation(operation).output_shape
        problems = list(violations(shape or _NO_OUTPUT, output, "", self.constraints))
        if problems:
            raise ValueError(f"the output of {operation} violates its model: {problems}")
        return self.protocol.serialize(operation, shape, output, request_id)
