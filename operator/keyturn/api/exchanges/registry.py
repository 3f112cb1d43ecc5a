"""The registry of exchanges: one field of StepSpec for each."""

import msgspec

from keyturn.api.base import ApiStruct, exactly_one_of, member_name
from keyturn.api.exchanges.base import ExchangeSpec
from keyturn.api.exchanges.codeartifact import CodeArtifactGetAuthorizationTokenSpec
from keyturn.api.exchanges.cognito import CognitoGetCredentialsSpec, CognitoGetOpenIdTokenSpec
from keyturn.api.exchanges.ecr import EcrGetAuthorizationTokenSpec
from keyturn.api.exchanges.identity_center import (
    IdentityCenterCreateTokenSpec,
    IdentityCenterGetRoleCredentialsSpec,
)
from keyturn.api.exchanges.license_manager import LicenseManagerCreateTokenSpec, LicenseManagerGetAccessTokenSpec
from keyturn.api.exchanges.oauth import OauthTokenSpec
from keyturn.api.exchanges.sts import (
    AssumeRoleSpec,
    AssumeRoleWithWebIdentitySpec,
    GetFederationTokenSpec,
    GetSessionTokenSpec,
)


class StepSpec(ApiStruct, frozen=True):
    """One step of the pipeline. Set exactly one exchange."""

    license_manager_get_access_token: LicenseManagerGetAccessTokenSpec | None = None
    license_manager_create_token: LicenseManagerCreateTokenSpec | None = None
    oauth_token: OauthTokenSpec | None = None
    identity_center_create_token: IdentityCenterCreateTokenSpec | None = None
    identity_center_get_role_credentials: IdentityCenterGetRoleCredentialsSpec | None = None
    assume_role_with_web_identity: AssumeRoleWithWebIdentitySpec | None = None
    assume_role: AssumeRoleSpec | None = None
    get_session_token: GetSessionTokenSpec | None = None
    get_federation_token: GetFederationTokenSpec | None = None
    cognito_get_credentials: CognitoGetCredentialsSpec | None = None
    cognito_get_open_id_token: CognitoGetOpenIdTokenSpec | None = None
    code_artifact_get_authorization_token: CodeArtifactGetAuthorizationTokenSpec | None = None
    ecr_get_authorization_token: EcrGetAuthorizationTokenSpec | None = None

    @property
    def exchange(self) -> ExchangeSpec:
        """The one exchange that is set."""
        members: tuple[ExchangeSpec | None, ...] = msgspec.structs.astuple(self)
        return next(member for member in members if member is not None)

    @property
    def name(self) -> str:
        """The name of the exchange, as in a manifest."""
        return member_name(self)


# Exchange types by their names in a manifest.
EXCHANGES: dict[str, type[ExchangeSpec]] = {
    field.encode_name: field.type.__args__[0] for field in msgspec.structs.fields(StepSpec)
}
StepSpec.RULES = (exactly_one_of(*EXCHANGES),)
