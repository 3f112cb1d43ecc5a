"""A request that writes formats, whatever its exchanges give: what is held is then made by hand."""

import copy
from dataclasses import replace
from typing import Any

import msgspec

from keyturn.api.target import TargetSpec
from keyturn.api.token_request import Request, canonical_hash
from tests.support.dependencies import request


def writing(*formats: dict[str, Any], region: str | None = "us-east-1", **target: Any) -> Request:
    """The flagship with these formats, which no rule between exchanges and formats has seen."""
    made = request()
    changed = copy.copy(made.spec)
    msgspec.structs.force_setattr(changed, "target", msgspec.convert(target | {"formats": formats}, TargetSpec))
    msgspec.structs.force_setattr(changed, "region", region)
    return replace(made, spec=changed, request_hash=canonical_hash(formats))
