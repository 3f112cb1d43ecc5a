"""The formats that are a token and nothing else."""

from typing import Annotated, ClassVar

from msgspec import Meta

from keyturn.api.base import Key, Kind
from keyturn.api.formats.base import FileFormatOptions


class TokenFormat(FileFormatOptions, frozen=True):
    """The newest token as it is, without a newline."""

    WRITES: ClassVar[tuple[Kind, ...]] = ("token",)
    KEY: ClassVar[str] = "token"

    key: Annotated[Key, Meta(description="Default: token.")] | None = None


class WebIdentityTokenFormat(FileFormatOptions, frozen=True):
    """The newest token for AWS_WEB_IDENTITY_TOKEN_FILE, with which an AWS SDK assumes AWS_ROLE_ARN by itself."""

    WRITES: ClassVar[tuple[Kind, ...]] = ("token",)
    KEY: ClassVar[str] = "web_identity_token"

    key: Annotated[Key, Meta(description="Default: web_identity_token.")] | None = None
