"""The base classes of the exchange types, and the field types that several of them use."""

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from keyturn.api.base import ApiStruct, Kind, Region, matching
from keyturn.api.source import SecretKeyRef, SecretValue

# Grant types (RFC 6749, RFC 7523, RFC 8693) and token types (RFC 8693 section 3).
AUTHORIZATION_CODE = "authorization_code"
CLIENT_CREDENTIALS = "client_credentials"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
REFRESH_TOKEN = "refresh_token"  # noqa: S105 - the name of a grant
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - the name of a grant
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a type
ID_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - the name of a type
REFRESH_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:refresh_token"  # noqa: S105 - the name of a type

# The fields for a credential that the service accepts only once.
SINGLE_USE_FIELDS = ("codeFrom", "assertionFrom", "tokenCodeFrom")

RoleArn = Annotated[
    str,
    matching(
        # Not only AWS's partitions and account IDs: other implementations of STS have their own.
        r"^arn:[A-Za-z0-9-]+:iam::[!-9;-~]*:role/[!-~]+\Z",
        "the ARN of an IAM role, such as arn:aws:iam::111122223333:role/billing",
        min_length=20,
        max_length=2048,
        description="ARN of the role, such as arn:aws:iam::111122223333:role/billing.",
    ),
]
# RFC 6749 section 3.3.
Scope = Annotated[
    str,
    matching(
        r"^[!#-\[\]-~]+\Z",
        "printable ASCII characters without spaces, double quotes and backslashes",
        min_length=1,
        max_length=256,
    ),
]
TokenToRead = Annotated[
    Literal["accessToken", "idToken"],
    Meta(
        description="The token to send: accessToken (the newest access token, or the source token) or idToken (the ID"
        " token that an earlier exchange returned). Default: accessToken."
    ),
]


class ExchangeSpec(ApiStruct, frozen=True):
    """Base of all exchanges: the kinds of value that an exchange requires, produces and consumes.

    `DEFAULT_SECONDS` is AWS's default for `durationSeconds`, None if the exchange has no such field. `IS_ROLE`: it
    produces the session of a role. `FOR_USERS_ONLY`: it accepts only the access keys of an IAM user.
    """

    REQUIRES: ClassVar[tuple[Kind, ...]] = ("token",)
    PRODUCES: ClassVar[tuple[Kind, ...]] = ("credentials",)
    PRODUCES_ID_TOKEN: ClassVar[bool] = False
    DEFAULT_SECONDS: ClassVar[int | None] = None
    IS_ROLE: ClassVar[bool] = False
    FOR_USERS_ONLY: ClassVar[bool] = False
    # The property of the same name, as a CEL condition on `self`; empty if it never holds.
    CEL_IS_REFRESH_GRANT: ClassVar[str] = ""
    CEL_IS_TOKEN_SINGLE_USE: ClassVar[str] = ""
    # The condition under which `required_kinds` contains a token although REQUIRES does not.
    CEL_REQUIRES_TOKEN: ClassVar[str] = ""

    @property
    def required_kinds(self) -> tuple[Kind, ...]:
        """REQUIRES, and the kinds that the exchange requires because of its fields."""
        return self.REQUIRES

    @property
    def is_refresh_grant(self) -> bool:
        """Whether the exchange sends a refresh token, which is consumed if the response contains another one."""
        return False

    @property
    def single_use_credential(self) -> SecretValue | None:
        """The exchange's own credential that the service accepts only once, such as an authorization code."""
        # msgspec.structs.fields would evaluate all annotations at each call.
        names = zip(self.__struct_fields__, self.__struct_encode_fields__, strict=True)
        values = (getattr(self, name) for name, encoded in names if encoded in SINGLE_USE_FIELDS)
        return next((value for value in values if value), None)

    @property
    def is_token_single_use(self) -> bool:
        """Whether the service accepts the token only once, and later renewals use a token from its response."""
        return False

    @property
    def recipient(self) -> str:
        """The party that receives a single-use credential. A token that it returns is never sent to another party."""
        return ""

    @property
    def references(self) -> tuple[SecretKeyRef, ...]:
        """The Secret keys that the exchange's own fields refer to."""
        refs = (getattr(value, "secret_key_ref", None) for value in msgspec.structs.astuple(self))
        return tuple(ref for ref in refs if ref)


class AwsExchangeSpec(ExchangeSpec, frozen=True):
    """An AWS API operation in a region."""

    region: Annotated[Region, Meta(description="AWS region of this exchange. Default: spec.region.")] | None = None
