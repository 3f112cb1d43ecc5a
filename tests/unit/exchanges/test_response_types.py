from datetime import UTC, datetime
from typing import Any

import botocore.loaders
import pytest
from botocore.model import ServiceModel

from keyturn.exchanges.aws import well_typed

AT = datetime(2026, 1, 1, tzinfo=UTC)
KEYS, LOGINS = "GetRoleCredentials", "GetAuthorizationToken"


@pytest.mark.parametrize(
    ("service", "operation", "expected", "left"),
    [
        pytest.param("sso", KEYS, {"roleCredentials": {"expiration": 1, "accessKeyId": "A"}}, None,
                     id="what fits"),
        pytest.param("sso", KEYS, {"roleCredentials": {"expiration": True, "accessKeyId": 1}},
                     {"roleCredentials": {}}, id="members of a structure"),
        pytest.param("sso", KEYS, {"roleCredentials": "x"}, {}, id="no structure"),
        pytest.param("ecr", LOGINS, {"authorizationData": [1, {"expiresAt": AT}, {"expiresAt": 1}]},
                     {"authorizationData": [{"expiresAt": AT}, {}]}, id="items of a list"),
        pytest.param("ecr", LOGINS, {"authorizationData": {}}, {}, id="no list"),
        pytest.param("ecr", LOGINS, {"ResponseMetadata": {"a": 1}}, None, id="what is not modelled"),
    ],
)  # fmt: skip
def test_members_of_the_wrong_type_are_removed(
    service: str, operation: str, expected: dict[str, Any], left: dict[str, Any] | None
) -> None:
    model = ServiceModel(botocore.loaders.Loader().load_service_model(service, "service-2"), service)
    shape = model.operation_model(operation).output_shape

    assert shape is not None
    assert well_typed(shape, expected) == (expected if left is None else left)
