"""AWS STS."""

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from keyturn.api.base import TEXT, ApiStruct, Kind, Rule, matching
from keyturn.api.exchanges.base import AwsExchangeSpec, RoleArn, TokenToRead
from keyturn.api.source import SecretValue, SingleUseValue

DEFAULT_ROLE_SECONDS = 3600
DEFAULT_SESSION_SECONDS = 43200
_RoleSeconds = Annotated[int, Meta(ge=900, le=43200)]
_USER_SESSION = "Lifetime of the credentials in seconds. Default: 43200."
# The placeholders {namespace} and {name} cannot be confused with a name: AWS allows no braces.
_NAME = (
    r"^([A-Za-z0-9_+=,.@-]|\{namespace\}|\{name\})*\Z",
    "letters, digits and _+=,.@-, and the placeholders {namespace} and {name}",
)
_PLACEHOLDERS = "{namespace} and {name} are replaced by those of the TokenRequest. Default: {namespace}.{name}."
RoleSessionName = Annotated[
    str,
    matching(
        *_NAME,
        min_length=2,
        max_length=64,
        description=f"Name of the session, as shown in CloudTrail. {_PLACEHOLDERS}",
    ),
]
FederatedUserName = Annotated[
    str, matching(*_NAME, min_length=2, max_length=32, description=f"Name of the federated user. {_PLACEHOLDERS}")
]
# A literal ÿ: RE2 and Python have no common escape for it.
_POLICY = (r"^[\t\n\r -ÿ]+\Z", "text of Latin-1 characters (U+0020 to U+00FF, tabs and line breaks)")
_POLICY_TEXT = "Session policy (JSON). It limits the permissions of the session."
# botocore's model sets no maximum for AssumeRole; AWS reports PackedPolicyTooLarge instead.
LongPolicy = Annotated[str, matching(*_POLICY, min_length=1, max_length=10240, description=_POLICY_TEXT)]
Policy = Annotated[str, matching(*_POLICY, min_length=1, max_length=2048, description=_POLICY_TEXT)]
_TagText = rf"{TEXT}_.:/=+@-"
_TAG_WORDS = "letters, digits, spaces and _.:/=+@-"
TagKey = Annotated[str, matching(rf"^[{_TagText}]+\Z", _TAG_WORDS, min_length=1, max_length=128)]
TagValue = Annotated[str, matching(rf"^[{_TagText}]*\Z", _TAG_WORDS, max_length=256, description="Value of the tag.")]


class PolicyArn(ApiStruct, frozen=True):
    """A managed policy."""

    arn: Annotated[
        str,
        matching(
            r"^arn:[A-Za-z0-9-]+:iam::[!-9;-~]*:policy/[!-~]+\Z",
            "the ARN of an IAM policy, such as arn:aws:iam::aws:policy/ReadOnlyAccess",
            min_length=20,
            max_length=2048,
            description="ARN of the policy, such as arn:aws:iam::aws:policy/ReadOnlyAccess.",
        ),
    ]


PolicyArns = Annotated[
    tuple[PolicyArn, ...],
    Meta(max_length=10, description="Managed session policies. They limit the permissions of the session."),
]


class Tag(ApiStruct, frozen=True):
    """A session tag."""

    key: Annotated[TagKey, Meta(description="Key of the tag. Keys are compared case-insensitively.")]
    value: TagValue

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="tag keys must not start with aws:, which AWS reserves",
            cel="!self.key.lowerAscii().startsWith('aws:')",
            is_met_by=lambda tag: not tag.key.lower().startswith("aws:"),
        ),
    )


Tags = Annotated[
    tuple[Tag, ...],
    Meta(max_length=50, description="Session tags, for policies that compare them with tags of resources."),
]
# str.lower() also changes non-ASCII letters, unlike CEL's lowerAscii().
_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
TAG_KEYS_RULE = Rule(
    message="tag keys must be unique, ignoring case",
    # The one-element list binds `keys`: lowerAscii() in each comparison would exceed the API server's cost limit.
    cel="""
        !has(self.tags) || [self.tags.map(t, t.key.lowerAscii())].all(keys,
            keys.all(k, keys.exists_one(other, other == k)))
    """,
    is_met_by=lambda spec: len({tag.key.translate(_ASCII_LOWER) for tag in spec.tags or ()}) == len(spec.tags or ()),
)
TokenSize = Annotated[int, Meta(ge=0, le=4096, description="Minimum size of the session token, in bytes.")]
SerialNumber = Annotated[
    str,
    matching(
        r"^[A-Za-z0-9_+=/:,.@-]*\Z",
        "letters, digits and _+=/:,.@-",
        min_length=9,
        max_length=256,
        description="Serial number or ARN of the user's MFA device, such as arn:aws:iam::111122223333:mfa/alice."
        " Renewal requires a new code each time.",
    ),
]
_MFA_RULE = Rule(
    message="serialNumber and tokenCodeFrom must be set together",
    cel="has(self.serialNumber) == has(self.tokenCodeFrom)",
    is_met_by=lambda spec: (spec.serial_number is None) == (spec.token_code_from is None),
)


class MfaExchangeSpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """An exchange that can send an MFA code. The call consumes the code."""

    serial_number: SerialNumber | None = None
    token_code_from: (
        Annotated[SingleUseValue, Meta(description="The current code of the MFA device, which is consumed.")] | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (_MFA_RULE,)


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
            matching(
                r"^[!-~]+\Z",
                "printable ASCII characters without spaces",
                min_length=4,
                max_length=2048,
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
            _RoleSeconds,
            Meta(
                description="Lifetime of the credentials in seconds, up to the role's maximum session"
                " duration. Default: 3600."
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
            matching(
                r"^[A-Za-z0-9_+=,.@:/-]*\Z",
                "letters, digits and _+=,.@:/-",
                min_length=2,
                max_length=1224,
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
            matching(
                r"^[A-Za-z0-9_+=,.@-]*\Z",
                "letters, digits and _+=,.@-",
                min_length=2,
                max_length=64,
                description="Source identity of the session. It persists through role chaining.",
            ),
        ]
        | None
    ) = None
    policy: LongPolicy | None = None
    policy_arns: PolicyArns | None = None
    duration_seconds: (
        Annotated[
            _RoleSeconds,
            Meta(
                description="Lifetime of the credentials in seconds, up to the role's maximum session duration,"
                " or 3600 after another"
                " role (role chaining). Default: 3600."
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
            message="each transitiveTagKeys entry must be the key of a tag in tags",
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
