from datetime import UTC, datetime
from typing import Any

import botocore.loaders
import pytest
from botocore.model import ServiceModel

from keyturn.exchanges.aws import well_typed

AT = datetime(2026, 1, 1, tzinfo=UTC)
KEYS, LOGINS = "GetRoleCredentials", "GetAuthorizationToken"


@pytest.mark.parametrize(
    ("service", "operation", "members", "expected"),
    [
        pytest.param("sso", KEYS, {"roleCredentials": {"expiration": 1, "accessKeyId": "A"}}, None,
                     id="valid members"),
        pytest.param("sso", KEYS, {"roleCredentials": {"expiration": True, "accessKeyId": 1}},
                     {"roleCredentials": {}}, id="members of a structure"),
        pytest.param("sso", KEYS, {"roleCredentials": "x"}, {}, id="a string instead of a structure"),
        pytest.param("ecr", LOGINS, {"authorizationData": [1, {"expiresAt": AT}, {"expiresAt": 1}]},
                     {"authorizationData": [{"expiresAt": AT}, {}]}, id="items of a list"),
        pytest.param("ecr", LOGINS, {"authorizationData": {}}, {}, id="a structure instead of a list"),
        pytest.param("ecr", LOGINS, {"ResponseMetadata": {"a": 1}}, None, id="a member that is not in the model"),
    ],
)  # fmt: skip
def test_members_of_the_wrong_type_are_removed(
    service: str, operation: str, members: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    model = ServiceModel(botocore.loaders.Loader().load_service_model(service, "service-2"), service)
    shape = model.operation_model(operation).output_shape

    assert shape is not None
    assert well_typed(shape, members) == (members if expected is None else expected)
