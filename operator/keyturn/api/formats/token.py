"""The formats that contain only a token."""

from typing import Annotated, ClassVar

from msgspec import Meta

from keyturn.api.base import Key, Kind
from keyturn.api.formats.base import FileFormatOptions


class TokenFormat(FileFormatOptions, frozen=True):
    """The newest token, without a newline."""

    WRITES: ClassVar[tuple[Kind, ...]] = ("token",)
    KEY: ClassVar[str] = "token"

    key: Annotated[Key, Meta(description="Key of the Secret. Default: token.")] | None = None


class WebIdentityTokenFormat(FileFormatOptions, frozen=True):
    """The newest token for AWS_WEB_IDENTITY_TOKEN_FILE. The AWS SDK itself assumes AWS_ROLE_ARN with it."""

    WRITES: ClassVar[tuple[Kind, ...]] = ("token",)
    KEY: ClassVar[str] = "web_identity_token"

    key: Annotated[Key, Meta(description="Key of the Secret. Default: web_identity_token.")] | None = None
