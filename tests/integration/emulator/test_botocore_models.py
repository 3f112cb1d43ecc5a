"""The emulator's responses, parsed by boto3 and compared with botocore's models."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore import xform_name
from botocore.model import ListShape, Shape, StructureShape

from tests.support.cases import cases
from tests.support.emulator import license_manager, sts
from tests.support.emulator.app import SERVICES
from tests.support.emulator.boto import USER, Boto
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import (
    ACCOUNT,
    ACCOUNT_ROLE_ARN,
    APPLICATION_ARN,
    DOMAIN,
    LICENSE_ARN,
    PERMISSION_SET,
    POOL_ID,
    REDIRECT_URI,
    REPOSITORY,
    ROLE_ARN,
)
from tests.support.emulator.service import Service

# AWS omits these as well.
OPTIONAL = {"SessionTokenUtilization", "SessionTokenSize"}
OPTIONAL_IN = {"AssumeRoleWithWebIdentity": {"SourceIdentity"}}
OPERATIONS = {service.label(name): (service, name) for service in SERVICES for name in service.operations}
ERRORS = {
    f"{service.name} {shape.name}": (service, name, shape)
    for service, name in OPERATIONS.values()
    for shape in service.operation(name).error_shapes
}
SESSION = {"RoleSessionName": "demo", "Policy": "{}"}
Params = Callable[[Emulator, Boto], dict[str, Any]]


def access_token(aws: Emulator, boto: Boto) -> str:
    return str(boto("license-manager").get_access_token(Token=aws.refresh_token())["AccessToken"])


def delete_token(aws: Emulator, _: Boto) -> dict[str, Any]:
    token = aws.control("POST", "refresh-tokens", properties=[], expires_in=60)
    return {"TokenId": token["token_id"]}


def login(aws: Emulator, _: Boto) -> dict[str, Any]:
    return {"IdentityPoolId": POOL_ID, "Logins": {aws.issuer_url.removeprefix("https://"): aws.id_token()}}


def identity(aws: Emulator, boto: Boto) -> dict[str, Any]:
    params = login(aws, boto)
    return {"IdentityId": boto("cognito-identity").get_id(**params)["IdentityId"], "Logins": params["Logins"]}


# Parameters with which each operation returns every member of its output.
PARAMS: dict[str, Params] = {
    "CreateToken": lambda _aws, _boto: {
        "LicenseArn": LICENSE_ARN,
        "ClientToken": "model",
        "RoleArns": [ROLE_ARN],
        "TokenProperties": ["on-prem"],
    },
    "GetAccessToken": lambda aws, _: {"Token": aws.refresh_token()},
    "DeleteToken": delete_token,
    "AssumeRole": lambda _aws, _boto: {**SESSION, "RoleArn": ACCOUNT_ROLE_ARN, "SourceIdentity": "alice"},
    "AssumeRoleWithWebIdentity": lambda aws, boto: {
        **SESSION,
        "RoleArn": ROLE_ARN,
        "WebIdentityToken": access_token(aws, boto),
    },
    "GetFederationToken": lambda _aws, _boto: {"Name": "guest", "Policy": "{}"},
    "CreateTokenWithIAM": lambda aws, _: {
        "clientId": APPLICATION_ARN,
        "grantType": "authorization_code",
        "code": aws.authorization_code(),
        "redirectUri": REDIRECT_URI,
    },
    "GetRoleCredentials": lambda aws, _: {
        "roleName": PERMISSION_SET,
        "accountId": ACCOUNT,
        "accessToken": aws.identity_center_token(),
    },
    "codeartifact:GetAuthorizationToken": lambda _aws, _boto: {"domain": DOMAIN},
    "codeartifact:GetRepositoryEndpoint": lambda _aws, _boto: {
        "domain": DOMAIN,
        "repository": REPOSITORY,
        "format": "pypi",
    },
    "GetId": login,
    "GetOpenIdToken": identity,
    "GetCredentialsForIdentity": identity,
}


def call(service: Service, operation: str, aws: Emulator, boto: Boto) -> dict[str, Any]:
    make_params = PARAMS.get(service.label(operation))
    params = make_params(aws, boto) if make_params else {}
    response: dict[str, Any] = getattr(boto(service.name, **USER), xform_name(operation))(**params)
    return response


def modelled_members(shape: Shape | None) -> Iterator[str]:
    for name, member in shape.members.items() if isinstance(shape, StructureShape) else ():
        inner = member.member if isinstance(member, ListShape) else member
        yield from [f"{name}.{leaf}" for leaf in modelled_members(inner)] or [name]


def returned_members(response: dict[str, Any]) -> Iterator[str]:
    for name, value in response.items():
        first = value[0] if isinstance(value, list) and value else value
        yield from [f"{name}.{leaf}" for leaf in returned_members(first)] if isinstance(first, dict) else [name]


@cases("service, operation", OPERATIONS)
def test_every_output_member_is_returned(service: Service, operation: str, aws: Emulator, boto: Boto) -> None:
    response = call(service, operation, aws, boto)
    response.pop("ResponseMetadata")
    optional = OPTIONAL | OPTIONAL_IN.get(operation, set())

    assert {*returned_members(response)} == {
        *modelled_members(service.operation(operation).output_shape)
    } - optional


@cases("service, operation, shape", ERRORS)
def test_every_modelled_error_is_returned(
    service: Service, operation: str, shape: StructureShape, aws: Emulator, boto: Boto
) -> None:
    # The models of JSON 1.1 have no codes; the API reference has: 500 for a fault of the server, else 400.
    is_server_fault = shape.metadata.get("fault") or "Server" in shape.name
    error = {"code": shape.name, "httpStatusCode": 500 if is_server_fault else 400}
    error |= shape.metadata.get("error", {})
    members = {"Location": "eu-west-1"} if "Location" in shape.members else {}
    aws.fault(service.label(operation), code=error["code"], status=error["httpStatusCode"], members=members)
    with pytest.raises(getattr(boto(service.name, **USER).exceptions, shape.name)) as caught:
        call(service, operation, aws, boto)
    response = caught.value.response

    assert response["Error"]["Code"] == error["code"]
    assert response["ResponseMetadata"]["HTTPStatusCode"] == error["httpStatusCode"]
    assert members.items() <= response.items()


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
