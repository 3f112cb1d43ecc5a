"""OAuth 2.0 at any issuer."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from keyturn.core.model.exchanges.operation import Operation
from keyturn.core.model.part import Kind
from keyturn.core.model.source import SecretValue


class OauthToken(Operation, frozen=True, kw_only=True):
    """A token endpoint of OAuth 2.0 (RFC 6749): a refresh token for an access token, at any issuer."""

    GIVES: ClassVar[tuple[Kind, ...]] = ("token",)
    GIVES_ID_TOKEN: ClassVar[bool] = True
    CONSUMES: ClassVar[str] = "{0}.grantType == 'refresh_token'"

    token_url: Annotated[
        str,
        Meta(max_length=2048, pattern=r"^https://[^/?#@\s]+(/[^?#\s]*)?\Z", description="The token endpoint."),
    ]
    grant_type: Annotated[Literal["refresh_token"], Meta(description="RFC 6749 section 6.")]
    client_id: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=1024,
            pattern=r"^[ -~]+\Z",
            description="The client that the token was given to.",
        ),
    ]
    client_secret_from: Annotated[SecretValue, Meta(description="The client's secret.")] | None = None
    client_authentication: (
        Annotated[
            Literal["basic", "post"],
            Meta(description="How the client's secret is sent (RFC 6749 section 2.3.1). Default: basic."),
        ]
        | None
    ) = None
    scope: (
        Annotated[
            tuple[Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[!#-\[\]-~]+\Z")], ...],
            Meta(max_length=64, description="Scopes to ask for. Default: those of the token."),
        ]
        | None
    ) = None
    ca_bundle_from: (
        Annotated[SecretValue, Meta(description="Certificates (PEM) that are trusted instead of the usual ones.")]
        | None
    ) = None

    @property
    def consumes(self) -> bool:
        """Whether the answer may replace the source token: any issuer may rotate a refresh token."""
        return self.grant_type == "refresh_token"
