"""What boto3 makes of our answers, walked along botocore's own models."""

from collections.abc import Iterator
from typing import Any

import pytest
from botocore import xform_name
from botocore.model import ListShape, Shape, StructureShape

from tests.integration.emulator.conftest import USER, Client
from tests.support.emulator import license_manager, sts
from tests.support.emulator.app import SERVICES
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

# What AWS may leave out too.
NOT_SET = {"SessionTokenUtilization", "SessionTokenSize"}
NOT_SET_BY = {"AssumeRoleWithWebIdentity": {"SourceIdentity"}}
OPERATIONS = [
    pytest.param(service, name, id=service.label(name)) for service in SERVICES for name in service.operations
]
ERRORS = [
    pytest.param(service, name, shape, id=f"{service.label(name)} {shape.name}")
    for service in SERVICES
    for name in service.operations
    for shape in service.operation(name).error_shapes
]


def _good(aws: Emulator, client: Client) -> dict[str, dict[str, Any]]:
    """Give parameters for each operation that it answers in full."""
    token = aws.control("POST", "refresh-tokens", properties=[], expires_in=60)
    role_arns = {"RoleArns": [ROLE_ARN], "TokenProperties": ["on-prem"]}
    create = {"LicenseArn": LICENSE_ARN, "ClientToken": "contract", **role_arns}
    client("license-manager", **USER).create_token(**create)
    web_identity = client("license-manager").get_access_token(Token=token["token"])["AccessToken"]
    session = {"RoleSessionName": "demo", "Policy": "{}"}
    return {
        "CreateToken": create,
        "GetAccessToken": {"Token": token["token"]},
        "ListTokens": {"MaxResults": 1},
        "DeleteToken": {"TokenId": token["token_id"]},
        "AssumeRole": {**session, "RoleArn": ACCOUNT_ROLE_ARN, "SourceIdentity": "alice"},
        "AssumeRoleWithWebIdentity": {**session, "RoleArn": ROLE_ARN, "WebIdentityToken": web_identity},
        "GetFederationToken": {"Name": "guest", "Policy": "{}"},
        "GetSessionToken": {},
        "GetCallerIdentity": {},
        "CreateTokenWithIAM": {
            "clientId": APPLICATION_ARN,
            "grantType": "authorization_code",
            "code": aws.authorization_code(),
            "redirectUri": REDIRECT_URI,
        },
        "GetRoleCredentials": {
            "roleName": PERMISSION_SET,
            "accountId": ACCOUNT,
            "accessToken": aws.identity_center_token(),
        },
        "codeartifact:GetAuthorizationToken": {"domain": DOMAIN},
        "codeartifact:GetRepositoryEndpoint": {"domain": DOMAIN, "repository": REPOSITORY, "format": "pypi"},
        "ecr:GetAuthorizationToken": {},
        "ecr-public:GetAuthorizationToken": {},
        **_of_the_pool(aws, client),
    }


def _of_the_pool(aws: Emulator, client: Client) -> dict[str, dict[str, Any]]:
    """Give parameters for who signed in at the issuer."""
    logins = {"Logins": {aws.issuer_url.removeprefix("https://"): aws.id_token()}}
    in_pool = {"IdentityPoolId": POOL_ID, **logins}
    identity = {"IdentityId": client("cognito-identity").get_id(**in_pool)["IdentityId"], **logins}
    return {"GetId": in_pool, "GetOpenIdToken": identity, "GetCredentialsForIdentity": identity}


def _leaves(shape: Shape | None) -> Iterator[str]:
    for name, member in shape.members.items() if isinstance(shape, StructureShape) else ():
        inner = member.member if isinstance(member, ListShape) else member
        yield from [f"{name}.{leaf}" for leaf in _leaves(inner)] or [name]


def _given(answer: dict[str, Any]) -> Iterator[str]:
    for name, value in answer.items():
        first = value[0] if isinstance(value, list) and value else value
        yield from [f"{name}.{leaf}" for leaf in _given(first)] if isinstance(first, dict) else [name]


@pytest.mark.parametrize(("service", "operation"), OPERATIONS)
def test_every_output_member_arrives(service: Service, operation: str, aws: Emulator, client: Client) -> None:
    params = _good(aws, client)[service.label(operation)]
    answer = getattr(client(service.name, **USER), xform_name(operation))(**params)
    answer.pop("ResponseMetadata")

    not_set = NOT_SET | NOT_SET_BY.get(operation, set())

    assert set(_given(answer)) == set(_leaves(service.operation(operation).output_shape)) - not_set


@pytest.mark.parametrize(("service", "operation", "shape"), ERRORS)
def test_every_modelled_error_arrives(
    service: Service, operation: str, shape: StructureShape, aws: Emulator, client: Client
) -> None:
    # The models of JSON 1.1 have no codes; their pages have: 500 for the server's fault, else 400.
    fault = shape.metadata.get("fault") or "Server" in shape.name
    modelled = {"code": shape.name, "httpStatusCode": 500 if fault else 400}
    modelled |= shape.metadata.get("error", {})
    code, status = modelled["code"], modelled["httpStatusCode"]
    members = {"Location": "eu-west-1"} if "Location" in shape.members else {}
    aws.fault(service.label(operation), code=code, status=status, members=members)
    boto = client(service.name, **USER)
    with pytest.raises(getattr(boto.exceptions, shape.name)) as caught:
        getattr(boto, xform_name(operation))(**_good(aws, client)[service.label(operation)])
    answer = caught.value.response

    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)
    assert {name: answer[name] for name in members} == members


@pytest.mark.parametrize(
    ("service", "operation", "answer"),
    [
        pytest.param(license_manager.SERVICE, "GetAccessToken", {"AccessToken": 1}, id="a wrong type"),
        pytest.param(license_manager.SERVICE, "GetAccessToken", {"AccessToken": "a b"}, id="a broken pattern"),
        pytest.param(license_manager.SERVICE, "CreateToken", {"TokenType": "OTHER"}, id="not of the enum"),
        pytest.param(license_manager.SERVICE, "DeleteToken", {"TokenId": "x"}, id="an unknown member"),
        pytest.param(
            sts.SERVICE, "AssumeRoleWithWebIdentity", {"Credentials": {}}, id="a required member missing"
        ),
    ],
)
def test_an_answer_that_breaks_the_model_raises(service: Service, operation: str, answer: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="breaks its model"):
        service.write(operation, answer, "request-id")
