from typing import Any

import pytest

from tests.support.cases import cases
from tests.support.emulator import license_manager, sts
from tests.support.emulator.service import Service


@cases(
    "service, operation, output",
    {
        "wrong type": (license_manager.SERVICE, "GetAccessToken", {"AccessToken": 1}),
        "pattern violated": (license_manager.SERVICE, "GetAccessToken", {"AccessToken": "a b"}),
        "value not in the enum": (license_manager.SERVICE, "CreateToken", {"TokenType": "OTHER"}),
        "unknown member": (license_manager.SERVICE, "DeleteToken", {"TokenId": "x"}),
        "required member missing": (sts.SERVICE, "AssumeRoleWithWebIdentity", {"Credentials": {}}),
    },
)
def test_output_that_violates_the_model_raises(service: Service, operation: str, output: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="violates its model"):
        service.serialize(operation, output, "request-id")
