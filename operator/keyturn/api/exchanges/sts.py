"""AWS STS."""

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from keyturn.api.base import Kind, Rule
from keyturn.api.exchanges.base import AwsExchangeSpec, TokenToRead
from keyturn.api.exchanges.session_parameters import (
    TAG_KEYS_RULE,
    FederatedUserName,
    LongPolicy,
    MfaExchangeSpec,
    Policy,
    PolicyArns,
    RoleArn,
    RoleSessionName,
    TagKey,
    Tags,
    TokenSize,
)
from keyturn.api.source import SecretValue

DEFAULT_ROLE_SECONDS = 3600
DEFAULT_SESSION_SECONDS = 43200
_USER_SESSION = "Lifetime in seconds. Default: 43200."


class AssumeRoleWithWebIdentitySpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """Exchanges an ID token or access token for credentials of an IAM role (STS AssumeRoleWithWebIdentity).

    The call is unsigned.
    """

    IS_ROLE: ClassVar[bool] = True
    DEFAULT_SECONDS: ClassVar[int | None] = DEFAULT_ROLE_SECONDS

    role_arn: RoleArn
    from_: TokenToRead | None = msgspec.field(default=None, name="from")
    role_session_name: RoleSessionName | None = None
    provider_id: (
        Annotated[
            str,
            Meta(
                min_length=4,
                max_length=2048,
                pattern=r"^[!-~]+\Z",
                description="Host of the OAuth 2.0 provider, such as www.amazon.com. Only for OAuth 2.0 access tokens;"
                " must not be set for OpenID Connect.",
            ),
        ]
        | None
    ) = None
    policy: Policy | None = None
    policy_arns: PolicyArns | None = None
    duration_seconds: (
        Annotated[
            int,
            Meta(
                ge=900,
                le=43200,
                description="Lifetime in seconds, up to the role's maximum session duration. Default: 3600.",
            ),
        ]
        | None
    ) = None
    minimum_session_token_size: TokenSize | None = None


class AssumeRoleSpec(MfaExchangeSpec, frozen=True, kw_only=True):
    """Exchanges credentials for credentials of an IAM role (STS AssumeRole)."""

    REQUIRES: ClassVar[tuple[Kind, ...]] = ("credentials",)
    IS_ROLE: ClassVar[bool] = True
    DEFAULT_SECONDS: ClassVar[int | None] = DEFAULT_ROLE_SECONDS

    role_arn: RoleArn
    role_session_name: RoleSessionName | None = None
    external_id: (
        Annotated[
            str,
            Meta(
                min_length=2,
                max_length=1224,
                pattern=r"^[A-Za-z0-9_+=,.@:/-]*\Z",
                description="External ID that the role's trust policy requires.",
            ),
        ]
        | None
    ) = None
    external_id_from: Annotated[SecretValue, Meta(description="External ID, from a Secret.")] | None = None
    tags: Tags | None = None
    transitive_tag_keys: (
        Annotated[
            tuple[TagKey, ...],
            Meta(
                max_length=50, description="Keys of the tags that are passed on to subsequent sessions (role chaining)."
            ),
        ]
        | None
    ) = None
    source_identity: (
        Annotated[
            str,
            Meta(
                min_length=2,
                max_length=64,
                pattern=r"^[A-Za-z0-9_+=,.@-]*\Z",
                description="Source identity of the session. It persists through role chaining.",
            ),
        ]
        | None
    ) = None
    policy: LongPolicy | None = None
    policy_arns: PolicyArns | None = None
    duration_seconds: (
        Annotated[
            int,
            Meta(
                ge=900,
                le=43200,
                description="Lifetime in seconds, up to the role's maximum session duration, or 3600 after another"
                " role (role chaining). Default: 3600.",
            ),
        ]
        | None
    ) = None
    minimum_session_token_size: TokenSize | None = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        *MfaExchangeSpec.RULES,
        TAG_KEYS_RULE,
        Rule(
            message="externalId and externalIdFrom are mutually exclusive",
            cel="!has(self.externalId) || !has(self.externalIdFrom)",
            is_met_by=lambda spec: spec.external_id is None or spec.external_id_from is None,
        ),
        Rule(
            message="each of transitiveTagKeys must be the key of a tag in tags",
            cel="""
                !has(self.transitiveTagKeys) ||
                self.transitiveTagKeys.all(k, has(self.tags) && self.tags.exists(t, t.key == k))
            """,
            is_met_by=lambda spec: {*(spec.transitive_tag_keys or ())} <= {tag.key for tag in spec.tags or ()},
        ),
    )


class GetSessionTokenSpec(MfaExchangeSpec, frozen=True, kw_only=True):
    """Exchanges the access keys of an IAM user for temporary credentials of the same user (STS GetSessionToken)."""

    REQUIRES: ClassVar[tuple[Kind, ...]] = ("credentials",)
    FOR_USERS_ONLY: ClassVar[bool] = True
    DEFAULT_SECONDS: ClassVar[int | None] = DEFAULT_SESSION_SECONDS

    duration_seconds: Annotated[int, Meta(ge=900, le=129600, description=_USER_SESSION)] | None = None
    minimum_session_token_size: TokenSize | None = None


class GetFederationTokenSpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """Exchanges the access keys of an IAM user for credentials of a federated user (STS GetFederationToken).

    They are limited to the intersection of the user's permissions and the session policies. Without a session policy,
    only resource-based policies apply.
    """

    REQUIRES: ClassVar[tuple[Kind, ...]] = ("credentials",)
    FOR_USERS_ONLY: ClassVar[bool] = True
    DEFAULT_SECONDS: ClassVar[int | None] = DEFAULT_SESSION_SECONDS

    name: FederatedUserName | None = None
    policy: Policy | None = None
    policy_arns: PolicyArns | None = None
    tags: Tags | None = None
    duration_seconds: Annotated[int, Meta(ge=900, le=129600, description=_USER_SESSION)] | None = None
    minimum_session_token_size: TokenSize | None = None

    RULES: ClassVar[tuple[Rule, ...]] = (TAG_KEYS_RULE,)
