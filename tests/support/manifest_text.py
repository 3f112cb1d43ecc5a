"""A request with any formats, for tests that build the pipeline values themselves."""

import copy
from dataclasses import replace
from typing import Any

import msgspec

from keyturn.api.target import TargetSpec
from keyturn.api.token_request import Request, canonical_hash
from tests.support.dependencies import request


def with_formats(*formats: dict[str, Any], region: str | None = "us-east-1", **target: Any) -> Request:
    """The flagship with these formats, without the validation of formats against exchanges."""
    base = request()
    spec = copy.copy(base.spec)
    msgspec.structs.force_setattr(spec, "target", msgspec.convert(target | {"formats": formats}, TargetSpec))
    msgspec.structs.force_setattr(spec, "region", region)
    return replace(base, spec=spec, request_hash=canonical_hash(formats))
