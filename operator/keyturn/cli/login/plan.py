"""Derives what a sign-in needs from a TokenRequest: the client, the token endpoint, and where to store the results."""

from collections.abc import Mapping
from dataclasses import dataclass

import click

from keyturn.api.exchanges.base import AUTHORIZATION_CODE, CLIENT_CREDENTIALS, JWT_BEARER, REFRESH_TOKEN
from keyturn.api.exchanges.identity_center import IdentityCenterCreateTokenSpec
from keyturn.api.exchanges.license_manager import LicenseManagerGetAccessTokenSpec
from keyturn.api.exchanges.oauth import OauthTokenSpec
from keyturn.api.source import SecretKeyRef, ValueRef
from keyturn.api.token_request import Request
from keyturn.cli.terminal import printable

# Member of a token response for each subject token type (RFC 8693 section 3). A JWT is an access token here.
_MEMBERS: Mapping[str, str] = {
    "urn:ietf:params:oauth:token-type:refresh_token": "refresh_token",
    "urn:ietf:params:oauth:token-type:id_token": "id_token",
}


class LoginError(click.ClickException):
    """A sign-in is not possible or has failed. The message never contains a code, a token or a secret."""

    def format_message(self) -> str:
        """Return the text to print, escaped: the issuer, which the author of a TokenRequest chose, describes errors."""
        return printable(self.message)


@dataclass(frozen=True, slots=True)
class LoginPlan:
    """A sign-in. `stores` maps each result to the Secret key that it is stored in.

    The results are members of the token response (RFC 6749 section 5.1), or `code` and `code_verifier` if the operator
    exchanges the code itself. `client_id` and `token_url` are empty if the TokenRequest does not state them. `client`
    is the exchange that states how the client authenticates; without it, the client is public.
    """

    stores: Mapping[str, SecretKeyRef]
    client_id: str = ""
    token_url: str = ""
    client: OauthTokenSpec | None = None
    ca_bundle_ref: ValueRef | None = None
    scopes: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    redirect_uri: str = ""

    @property
    def exchanges_code(self) -> bool:
        """Whether the sign-in exchanges the authorization code, rather than the operator."""
        return "code" not in self.stores

    @property
    def secret_name(self) -> str:
        """The Secret that receives the results."""
        return next(iter(self.stores.values())).name


def plan_login(request: Request) -> LoginPlan:
    """Derive the sign-in of a TokenRequest. Raises LoginError if a person cannot sign in for it."""
    source = request.spec.source.token_ref
    for step in request.spec.exchanges:
        exchange = step.exchange
        if isinstance(exchange, IdentityCenterCreateTokenSpec) and exchange.grant_type == AUTHORIZATION_CODE:
            return _identity_center(exchange)
        if source and "token" in exchange.required_kinds:
            return _for_token(exchange, source)
    if request.spec.source.service_account:
        raise LoginError("the source is the token of a ServiceAccount, which the operator requests itself")
    raise LoginError("no exchange of this TokenRequest uses a user's token")


def _for_token(exchange: object, source: SecretKeyRef) -> LoginPlan:
    """Return the sign-in that produces the source token for its first exchange."""
    if isinstance(exchange, LicenseManagerGetAccessTokenSpec):
        raise LoginError(
            "the source is a token of AWS License Manager: it comes from `aws license-manager create-token`, not from a"
            " sign-in"
        )
    if isinstance(exchange, IdentityCenterCreateTokenSpec) and exchange.grant_type == REFRESH_TOKEN:
        raise LoginError(
            "the source is a refresh token of IAM Identity Center; to sign in with this command, use grantType"
            " authorization_code with codeFrom and codeVerifierFrom instead"
        )
    if isinstance(exchange, OauthTokenSpec):
        return _oauth(exchange, source)
    # Such as assumeRoleWithWebIdentity: AWS verifies the ID token of an OpenID Connect issuer.
    return LoginPlan({"id_token": source}, scopes=("openid",))


def _oauth(exchange: OauthTokenSpec, source: SecretKeyRef) -> LoginPlan:
    if exchange.grant_type == CLIENT_CREDENTIALS:
        raise LoginError("grantType client_credentials uses no user's token")
    member = _MEMBERS.get(exchange.subject_token_type or "", "access_token")
    if exchange.grant_type == REFRESH_TOKEN:
        member = "refresh_token"
    elif exchange.grant_type == JWT_BEARER:
        member = "id_token"
    return LoginPlan(
        {member: source},
        client_id=exchange.client_id or "",
        token_url=exchange.token_url,
        client=exchange,
        ca_bundle_ref=exchange.ca_bundle_from.ref if exchange.ca_bundle_from else None,
        scopes=exchange.scope or (),
        resources=exchange.resource or (),
    )


def _identity_center(exchange: IdentityCenterCreateTokenSpec) -> LoginPlan:
    """Return the sign-in whose code the operator exchanges (CreateTokenWithIAM)."""
    if exchange.code_from is None or exchange.code_verifier_from is None:
        raise LoginError("the sign-in uses PKCE: set codeVerifierFrom, so that the code verifier can be stored as well")
    code, verifier = exchange.code_from.secret_key_ref, exchange.code_verifier_from.secret_key_ref
    if code.name != verifier.name:
        raise LoginError(
            "codeFrom and codeVerifierFrom must refer to the same Secret, so that the operator reads both at once"
        )
    return LoginPlan(
        {"code": SecretKeyRef(name=code.name, key=code.key), "code_verifier": verifier},
        client_id=exchange.client_id,
        scopes=exchange.scope or (),
        redirect_uri=exchange.redirect_uri or "",
    )
