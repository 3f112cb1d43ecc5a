"""The operations that turn what is held into something shorter-lived, one type each."""

import msgspec

from keyturn.api.base import Part, exactly_one_of
from keyturn.api.exchanges.base import AwsOperation, Operation
from keyturn.api.exchanges.codeartifact import CodeArtifactGetAuthorizationToken
from keyturn.api.exchanges.cognito import CognitoGetCredentials, CognitoGetOpenIdToken
from keyturn.api.exchanges.ecr import EcrGetAuthorizationToken
from keyturn.api.exchanges.identity_center import (
    IdentityCenterCreateToken,
    IdentityCenterGetRoleCredentials,
)
from keyturn.api.exchanges.license_manager import LicenseManagerCreateToken, LicenseManagerGetAccessToken
from keyturn.api.exchanges.oauth import OauthToken
from keyturn.api.exchanges.sts import (
    AssumeRole,
    AssumeRoleWithWebIdentity,
    GetFederationToken,
    GetSessionToken,
)

__all__ = [
    "OPERATIONS", "REFERENCES", "AssumeRole", "AssumeRoleWithWebIdentity", "AwsOperation",
    "CodeArtifactGetAuthorizationToken", "CognitoGetCredentials", "CognitoGetOpenIdToken",
    "EcrGetAuthorizationToken", "Exchange", "GetFederationToken", "GetSessionToken", "IdentityCenterCreateToken",
    "IdentityCenterGetRoleCredentials", "LicenseManagerCreateToken", "LicenseManagerGetAccessToken", "OauthToken",
    "Operation",
]  # fmt: skip

AnyOperation = (
    LicenseManagerGetAccessToken
    | LicenseManagerCreateToken
    | OauthToken
    | IdentityCenterCreateToken
    | IdentityCenterGetRoleCredentials
    | AssumeRoleWithWebIdentity
    | AssumeRole
    | GetSessionToken
    | GetFederationToken
    | CognitoGetCredentials
    | CognitoGetOpenIdToken
    | CodeArtifactGetAuthorizationToken
    | EcrGetAuthorizationToken
)


class Exchange(Part, frozen=True):
    """One step of the pipeline: exactly one operation."""

    license_manager_get_access_token: LicenseManagerGetAccessToken | None = None
    license_manager_create_token: LicenseManagerCreateToken | None = None
    oauth_token: OauthToken | None = None
    identity_center_create_token: IdentityCenterCreateToken | None = None
    identity_center_get_role_credentials: IdentityCenterGetRoleCredentials | None = None
    assume_role_with_web_identity: AssumeRoleWithWebIdentity | None = None
    assume_role: AssumeRole | None = None
    get_session_token: GetSessionToken | None = None
    get_federation_token: GetFederationToken | None = None
    cognito_get_credentials: CognitoGetCredentials | None = None
    cognito_get_open_id_token: CognitoGetOpenIdToken | None = None
    code_artifact_get_authorization_token: CodeArtifactGetAuthorizationToken | None = None
    ecr_get_authorization_token: EcrGetAuthorizationToken | None = None

    @property
    def operation(self) -> AnyOperation:
        """The one member that is set."""
        members: tuple[AnyOperation | None, ...] = msgspec.structs.astuple(self)
        return next(member for member in members if member is not None)


# By name in a manifest.
OPERATIONS: dict[str, type[Operation]] = {
    field.encode_name: field.type.__args__[0] for field in msgspec.structs.fields(Exchange)
}
# Where the steps name secrets of their own: operation and field.
REFERENCES = [
    (name, field.encode_name)
    for name, operation in OPERATIONS.items()
    for field in msgspec.structs.fields(operation)
    if field.name.endswith("_from")
]
Exchange.RULES = (exactly_one_of(*OPERATIONS),)
