"""What sessions of AWS have in common: policies that narrow them, tags, names, an MFA code."""

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
# With {namespace} and {name} in it, which no session name may hold as they are.
_NAME = r"^([A-Za-z0-9_+=,.@-]|\{namespace\}|\{name\})*\Z"
_NAME_SAYS = " {namespace} and {name} stand for those of the TokenRequest. Default: {namespace}.{name}."
RoleSessionName = Annotated[
    str,
    Meta(
        min_length=2,
        max_length=64,
        pattern=_NAME,
        description=f"Name of the session in CloudTrail.{_NAME_SAYS}",
    ),
]
FederatedUserName = Annotated[
    str, Meta(min_length=2, max_length=32, pattern=_NAME, description=f"Name of the federated user.{_NAME_SAYS}")
]
# RE2 and Python both take the last character as it is; neither knows the other's \u00FF.
_POLICY = r"^[\t\n\r -ÿ]+\Z"
_POLICY_SAYS = "An IAM policy (JSON) that the session's permissions are cut down to."
# Of AssumeRole alone the model has no maximum any more: what AWS thinks too large is PackedPolicyTooLarge.
LongPolicy = Annotated[str, Meta(min_length=1, max_length=10240, pattern=_POLICY, description=_POLICY_SAYS)]
Policy = Annotated[str, Meta(min_length=1, max_length=2048, pattern=_POLICY, description=_POLICY_SAYS)]
_TagText = rf"{TEXT}_.:/=+@-"
TagKey = Annotated[str, Meta(min_length=1, max_length=128, pattern=rf"^[{_TagText}]+\Z")]
TagValue = Annotated[str, Meta(max_length=256, pattern=rf"^[{_TagText}]*\Z", description="The tag's value.")]


class PolicyArn(ApiStruct, frozen=True):
    """A managed policy."""

    arn: Annotated[
        str,
        Meta(
            min_length=20,
            max_length=2048,
            pattern=r"^arn:aws[-a-z0-9]*:iam::(aws|[0-9]{12}):policy/[!-~]+\Z",
            description="Its ARN.",
        ),
    ]


PolicyArns = Annotated[
    tuple[PolicyArn, ...],
    Meta(max_length=10, description="Managed policies that the session's permissions are cut down to."),
]


class Tag(ApiStruct, frozen=True):
    """A session tag."""

    key: Annotated[TagKey, Meta(description="The tag's key; no two may differ by case only.")]
    value: TagValue

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="tag keys under aws: are AWS's own",
            cel="!self.key.lowerAscii().startsWith('aws:')",
            is_met_by=lambda it: not it.key.lower().startswith("aws:"),
        ),
    )


Tags = Annotated[tuple[Tag, ...], Meta(max_length=50, description="Session tags.")]
TAG_KEYS_RULE = Rule(
    message="two tag keys are the same or differ by case only",
    # In a list of one, the keys get a name: to make them small for each comparison would cost too much.
    cel="!has(self.tags) || [self.tags.map(t, t.key.lowerAscii())].all(keys, "
    "keys.all(k, keys.exists_one(other, other == k)))",
    is_met_by=lambda it: len({_lower_ascii(tag.key) for tag in it.tags or ()}) == len(it.tags or ()),
)
TokenSize = Annotated[int, Meta(ge=0, le=4096, description="Least size of the session token.")]
SerialNumber = Annotated[
    str,
    Meta(
        min_length=9,
        max_length=256,
        pattern=r"^[A-Za-z0-9_+=/:,.@-]*\Z",
        description="Serial number or ARN of the user's MFA device. With it the step works only once.",
    ),
]
_MFA_RULE = Rule(
    message="give serialNumber and tokenCodeFrom, or neither",
    cel="has(self.serialNumber) == has(self.tokenCodeFrom)",
    is_met_by=lambda it: (it.serial_number is None) == (it.token_code_from is None),
)


class MfaExchangeSpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """An operation that may show a code of an MFA device: the code is spent with the call."""

    serial_number: SerialNumber | None = None
    token_code_from: Annotated[SecretValue, Meta(description="The code that the device shows.")] | None = None

    RULES: ClassVar[tuple[Rule, ...]] = (_MFA_RULE,)


def _lower_ascii(text: str) -> str:
    # As CEL's lowerAscii does: the API server knows no other.
    return text.translate({upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)})
