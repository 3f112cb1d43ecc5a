"""What an answer of AWS may hold by its model: botocore's parser of JSON takes any type for any other."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from botocore.model import ListShape, Shape, StructureShape

_TYPES: Mapping[str, type] = {
    "structure": dict, "list": list, "string": str, "integer": int, "long": int, "timestamp": datetime,
}  # fmt: skip


def well_typed(shape: Shape, value: Any) -> Any:
    """Leave out, at any depth, what is not of the type of its shape; what no shape tells of stays."""
    if isinstance(shape, StructureShape):
        return {
            name: well_typed(shape.members[name], member) if name in shape.members else member
            for name, member in value.items()
            if name not in shape.members or _fits(shape.members[name], member)
        }
    if isinstance(shape, ListShape):
        return [well_typed(shape.member, item) for item in value if _fits(shape.member, item)]
    return value


def _fits(shape: Shape, value: Any) -> bool:
    # A bool is no number.
    return type(value) is _TYPES.get(shape.type_name, type(value))
