"""AWS STS."""

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from keyturn.api.base import Kind, Rule
from keyturn.api.exchanges.base import AwsExchangeSpec, ReadFrom
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
_OF_USER = "Wanted lifetime in seconds. Default: 43200."


class AssumeRoleWithWebIdentitySpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """sts AssumeRoleWithWebIdentity (unsigned): an ID token or access token for the credentials of a role."""

    IS_ROLE: ClassVar[bool] = True
    DEFAULT_SECONDS: ClassVar[int | None] = DEFAULT_ROLE_SECONDS

    role_arn: RoleArn
    from_: ReadFrom | None = msgspec.field(default=None, name="from")
    role_session_name: RoleSessionName | None = None
    provider_id: (
        Annotated[
            str,
            Meta(
                min_length=4,
                max_length=2048,
                pattern=r"^[!-~]+\Z",
                description="Host of an OAuth 2.0 provider, such as www.amazon.com, for its access tokens only;"
                " never for OpenID Connect.",
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
                description="Wanted lifetime in seconds, up to the role's maximum. Default: 3600.",
            ),
        ]
        | None
    ) = None
    minimum_session_token_size: TokenSize | None = None


class AssumeRoleSpec(MfaExchangeSpec, frozen=True, kw_only=True):
    """sts AssumeRole: credentials for the credentials of a role."""

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
                description="What the role's trust policy may demand of callers from another account.",
            ),
        ]
        | None
    ) = None
    external_id_from: Annotated[SecretValue, Meta(description="The same, from a Secret.")] | None = None
    tags: Tags | None = None
    transitive_tag_keys: (
        Annotated[
            tuple[TagKey, ...],
            Meta(max_length=50, description="Keys of the tags that go on to the roles after this one."),
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
                description="Who stands behind the session; the same through all roles that follow.",
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
                description="Wanted lifetime in seconds, up to the role's maximum; at most 3600 after another"
                " role. Default: 3600.",
            ),
        ]
        | None
    ) = None
    minimum_session_token_size: TokenSize | None = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        *MfaExchangeSpec.RULES,
        TAG_KEYS_RULE,
        Rule(
            message="give externalId or externalIdFrom, not both",
            cel="!has(self.externalId) || !has(self.externalIdFrom)",
            is_met_by=lambda it: it.external_id is None or it.external_id_from is None,
        ),
        Rule(
            message="each of transitiveTagKeys must be the key of one of the tags",
            cel="!has(self.transitiveTagKeys) || self.transitiveTagKeys.all(k, "
            "has(self.tags) && self.tags.exists(t, t.key == k))",
            is_met_by=lambda it: {*(it.transitive_tag_keys or ())} <= {tag.key for tag in it.tags or ()},
        ),
    )


class GetSessionTokenSpec(MfaExchangeSpec, frozen=True, kw_only=True):
    """sts GetSessionToken: the long-lived keys of an IAM user for short-lived credentials of the same user."""

    REQUIRES: ClassVar[tuple[Kind, ...]] = ("credentials",)
    FOR_USERS_ONLY: ClassVar[bool] = True
    DEFAULT_SECONDS: ClassVar[int | None] = DEFAULT_SESSION_SECONDS

    duration_seconds: Annotated[int, Meta(ge=900, le=129600, description=_OF_USER)] | None = None
    minimum_session_token_size: TokenSize | None = None


class GetFederationTokenSpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """sts GetFederationToken: the keys of an IAM user for a guest, who may do what user and policies both allow.

    Without policy and policyArns the guest may do nothing but what resources' own policies allow him.
    """

    REQUIRES: ClassVar[tuple[Kind, ...]] = ("credentials",)
    FOR_USERS_ONLY: ClassVar[bool] = True
    DEFAULT_SECONDS: ClassVar[int | None] = DEFAULT_SESSION_SECONDS

    name: FederatedUserName | None = None
    policy: Policy | None = None
    policy_arns: PolicyArns | None = None
    tags: Tags | None = None
    duration_seconds: Annotated[int, Meta(ge=900, le=129600, description=_OF_USER)] | None = None
    minimum_session_token_size: TokenSize | None = None

    RULES: ClassVar[tuple[Rule, ...]] = (TAG_KEYS_RULE,)
