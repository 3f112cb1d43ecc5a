"""AWS License Manager."""

from typing import Annotated, ClassVar

from msgspec import Meta

from keyturn.core.model.exchanges.operation import AwsOperation
from keyturn.core.model.part import Kind


class LicenseManagerGetAccessToken(AwsOperation, frozen=True, kw_only=True):
    """license-manager GetAccessToken: a refresh token for an access token that lives one hour."""

    GIVES: ClassVar[tuple[Kind, ...]] = ("token",)

    token_properties: (
        Annotated[
            tuple[str, ...],
            Meta(max_length=3, description="Values that the token's own properties must hold."),
        ]
        | None
    ) = None
