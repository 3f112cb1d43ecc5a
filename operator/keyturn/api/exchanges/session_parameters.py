"""Parameters that several session exchanges share: names, session policies, tags and MFA."""

from typing import Annotated, ClassVar

from msgspec import Meta

from keyturn.api.base import TEXT, ApiStruct, Rule
from keyturn.api.exchanges.base import AwsExchangeSpec
from keyturn.api.source import SecretValue

RoleArn = Annotated[
    str,
    Meta(
        min_length=20,
        max_length=2048,
        pattern=r"^arn:aws[-a-z0-9]*:iam::[0-9]{12}:role/[!-~]+\Z",
        description="ARN of the role.",
    ),
]
# The placeholders {namespace} and {name} cannot be confused with a name: AWS allows no braces.
_NAME = r"^([A-Za-z0-9_+=,.@-]|\{namespace\}|\{name\})*\Z"
_PLACEHOLDERS = "{namespace} and {name} are replaced by those of the TokenRequest. Default: {namespace}.{name}."
RoleSessionName = Annotated[
    str,
    Meta(
        min_length=2,
        max_length=64,
        pattern=_NAME,
        description=f"Name of the session, as shown in CloudTrail. {_PLACEHOLDERS}",
    ),
]
FederatedUserName = Annotated[
    str, Meta(min_length=2, max_length=32, pattern=_NAME, description=f"Name of the federated user. {_PLACEHOLDERS}")
]
# A literal ÿ: RE2 and Python have no common escape for it.
_POLICY = r"^[\t\n\r -ÿ]+\Z"
_POLICY_TEXT = "Session policy (JSON). It limits the permissions of the session."
# Only for AssumeRole botocore's model has no maximum; AWS reports PackedPolicyTooLarge.
LongPolicy = Annotated[str, Meta(min_length=1, max_length=10240, pattern=_POLICY, description=_POLICY_TEXT)]
Policy = Annotated[str, Meta(min_length=1, max_length=2048, pattern=_POLICY, description=_POLICY_TEXT)]
_TagText = rf"{TEXT}_.:/=+@-"
TagKey = Annotated[str, Meta(min_length=1, max_length=128, pattern=rf"^[{_TagText}]+\Z")]
TagValue = Annotated[str, Meta(max_length=256, pattern=rf"^[{_TagText}]*\Z", description="Value of the tag.")]


class PolicyArn(ApiStruct, frozen=True):
    """A managed policy."""

    arn: Annotated[
        str,
        Meta(
            min_length=20,
            max_length=2048,
            pattern=r"^arn:aws[-a-z0-9]*:iam::(aws|[0-9]{12}):policy/[!-~]+\Z",
            description="ARN of the policy.",
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


Tags = Annotated[tuple[Tag, ...], Meta(max_length=50, description="Session tags.")]
TAG_KEYS_RULE = Rule(
    message="tag keys must be unique, ignoring case",
    # The list of one binds `keys`: lowerAscii() in each comparison would exceed the API server's cost limit.
    cel="""
        !has(self.tags) || [self.tags.map(t, t.key.lowerAscii())].all(keys,
            keys.all(k, keys.exists_one(other, other == k)))
    """,
    is_met_by=lambda spec: len({_lower_ascii(tag.key) for tag in spec.tags or ()}) == len(spec.tags or ()),
)
TokenSize = Annotated[int, Meta(ge=0, le=4096, description="Minimum size of the session token, in bytes.")]
SerialNumber = Annotated[
    str,
    Meta(
        min_length=9,
        max_length=256,
        pattern=r"^[A-Za-z0-9_+=/:,.@-]*\Z",
        description="Serial number or ARN of the user's MFA device. Renewal requires a new code each time.",
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
        Annotated[SecretValue, Meta(description="The current code of the MFA device, for single use.")] | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (_MFA_RULE,)


def _lower_ascii(text: str) -> str:
    # str.lower() also changes non-ASCII letters, unlike CEL's lowerAscii().
    return text.translate({upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)})
