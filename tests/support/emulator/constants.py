"""What the emulator starts with: accounts, roles, clients and applications, by their names."""

from typing import Any

ACCOUNT = "111122223333"
LICENSE_ARN = f"arn:aws:license-manager::{ACCOUNT}:license:l-0a1b2c3d4e5f60718293a4b5c6d7e8f9"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/LicenseConsumer"
OIDC_ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/OidcConsumer"
ACCOUNT_ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/AccountConsumer"
POOL_ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/PoolConsumer"
OTHER_POOL_ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/OtherPoolConsumer"
DOMAIN, REPOSITORY = "acme", "packages"
# The example keys of AWS's documentation: secret scanners ignore them.
USER_KEY_ID = "AKIAIOSFODNN7EXAMPLE"
USER_SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

LICENSE_ISSUER = "https://openid-license-manager.amazonaws.com"
LICENSE_PROVIDER = LICENSE_ISSUER.removeprefix("https://")
ISSUER_ACCOUNT_PROPERTY = "aws:license-manager:token-issuer-account-id:"
WEB_IDENTITY_ACTION = "sts:AssumeRoleWithWebIdentity"

COGNITO_PROVIDER = "cognito-identity.amazonaws.com"
POOL_ID = "us-east-1:0f1e2d3c-1111-2222-3333-444455556666"

_INSTANCE = "ssoins-0123456789abcdef"
APPLICATION_ARN = f"arn:aws:sso::{ACCOUNT}:application/{_INSTANCE}/apl-0123456789abcdef"
OTHER_APPLICATION_ARN = f"arn:aws:sso::{ACCOUNT}:application/{_INSTANCE}/apl-fedcba9876543210"
REDIRECT_URI = "http://127.0.0.1:8400/callback"
CONTEXT_PROVIDER = "arn:aws:iam::aws:contextProvider/IdentityCenter"
PERMISSION_SET = "Reader"
DEFAULT_SCOPES = frozenset({"openid", "aws", "sts:identity_context", "sso:account:access"})

AUDIENCE = "sts.amazonaws.com"
CLIENT_ID = "keyturn"
NON_ROTATING_CLIENT_ID = "keyturn-lasting"
# Contains every character that client_secret_basic and client_secret_post must encode.
CLIENT_SECRET = "pass/with+every%25kind:of=sign&more"


def trust_policy(principal: dict[str, str], actions: str | list[str], condition: dict[str, Any]) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": principal, "Action": actions, "Condition": condition}
    return {"Version": "2012-10-17", "Statement": [statement]}


TRUST_POLICY = trust_policy(
    {"Federated": LICENSE_PROVIDER},
    WEB_IDENTITY_ACTION,
    {"ForAnyValue:StringLike": {f"{LICENSE_PROVIDER}:amr": ISSUER_ACCOUNT_PROPERTY + ACCOUNT}},
)
# Every principal of the account that may call STS can assume this role: a user or another role.
ACCOUNT_TRUST_POLICY = trust_policy(
    {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
    ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity", "sts:SetContext"],
    {},
)
