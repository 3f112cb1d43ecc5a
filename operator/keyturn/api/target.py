"""The Secret that is written, and when it is written anew."""

import re
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from keyturn.api.base import ApiStruct, Name, Rule
from keyturn.api.formats.registry import KEY_IN_CEL, FormatSpec
from keyturn.api.times import DURATION, duration

_RESERVED_METADATA = r"^([^/]*\.)?(keyturn\.dev|kubernetes\.io|k8s\.io)/"
_END = r"\Z"


def is_duration(text: str) -> str:
    """The test whether `text` is one, in CEL.

    Rules are asked of what breaks the pattern or is empty, too, and duration() of that prints all of its rule.
    """
    return f"{text} != '' && {text}.matches('{DURATION.removesuffix(_END)}$')"


# As Kubernetes wants it of a label; of an annotation too, whose prefix may have capitals.
LABEL_NAME = (
    r"^([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*/)?"
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z"
)
LabelValue = Annotated[str, Meta(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?\Z")]
_NAMES = "[has(self.labels) ? self.labels : {}, has(self.annotations) ? self.annotations : {}]"


def _names(it: Any) -> tuple[str, ...]:
    return (*(it.labels or {}), *(it.annotations or {}))


_metadata_is_named = Rule(
    message="the name of a label or annotation has up to 63 letters, digits, -, _ and ., with a letter or digit at "
    "both ends, and may have a prefix such as example.com/",
    cel=f"{_NAMES}.all(m, m.all(k, k.matches(r'{LABEL_NAME.removesuffix(_END)}$')))",
    is_met_by=lambda it: all(re.search(LABEL_NAME, name) for name in _names(it)),
)
_metadata_is_free = Rule(
    message="labels and annotations under keyturn.dev, kubernetes.io or k8s.io are not yours to set here",
    cel=f"{_NAMES}.all(m, m.all(k, !k.matches(r'{_RESERVED_METADATA}')))",
    is_met_by=lambda it: not any(re.search(_RESERVED_METADATA, name) for name in _names(it)),
)


class TargetMetadata(ApiStruct, frozen=True):
    """Labels and annotations for the Secret. Nothing is copied from the TokenRequest."""

    labels: (
        Annotated[
            dict[Annotated[str, Meta(max_length=317)], LabelValue],
            Meta(max_length=32, description="At most 32."),
        ]
        | None
    ) = None
    annotations: (
        Annotated[
            dict[Annotated[str, Meta(max_length=317)], Annotated[str, Meta(max_length=8192)]],
            Meta(max_length=32, description="At most 32."),
        ]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (_metadata_is_named, _metadata_is_free)


class TargetSpec(ApiStruct, frozen=True):
    """The Secret to write."""

    secret_name: Annotated[Name, Meta(description="Default: the name of the TokenRequest.")] | None = None
    formats: (
        Annotated[
            tuple[FormatSpec, ...],
            Meta(
                min_length=1,
                max_length=8,
                description="Default, by what the last exchange produces: env and credentialProcess for "
                "credentials, dockerConfigJson for registry logins, token for a token.",
            ),
        ]
        | None
    ) = None
    metadata: TargetMetadata | None = None
    deletion_policy: (
        Annotated[
            Literal["Delete", "Retain"],
            Meta(description="Whether the Secret goes with the TokenRequest (Delete, the default) or stays."),
        ]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="two formats write the same key: give one of them another `key`",
            cel=f"!has(self.formats) || [self.formats.map(f, {KEY_IN_CEL.format('f')})].all(keys, "
            "keys.all(k, keys.exists_one(other, other == k)))",
            is_met_by=lambda it: _all_distinct([key for f in it.formats or () for key in f.options.keys]),
        ),
        Rule(
            message="awsConfig names the file of a credentialProcess format: give one beside it",
            cel="!has(self.formats) || !self.formats.exists(f, has(f.awsConfig)) || "
            "self.formats.exists(f, has(f.credentialProcess))",
            is_met_by=lambda it: (
                not any(f.aws_config for f in it.formats or ()) or any(f.credential_process for f in it.formats)
            ),
        ),
    )


def _all_distinct(keys: list[str]) -> bool:
    return len(keys) == len(set(keys))


class RenewalSpec(ApiStruct, frozen=True):
    """When to renew: so long before the expiry. Both are cut to half the real lifetime."""

    renew_before: (
        Annotated[
            str,
            Meta(
                min_length=2,
                max_length=20,
                pattern=DURATION,
                description="Such as 20m or 1h30m, whole seconds. More than half of the real lifetime counts as half.",
            ),
        ]
        | None
    ) = None
    renew_before_percentage: (
        Annotated[
            Annotated[int, Meta(ge=1, le=99)],
            Meta(description="Per cent of the real lifetime left when it is renewed; more than 50 counts as 50."),
        ]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="give renewBefore or renewBeforePercentage, not both",
            cel="!has(self.renewBefore) || !has(self.renewBeforePercentage)",
            is_met_by=lambda it: it.renew_before is None or it.renew_before_percentage is None,
        ),
        Rule(
            message="renewBefore must be at least 1s",
            cel=f"!has(self.renewBefore) || !({is_duration('self.renewBefore')}) || "
            "duration(self.renewBefore) >= duration('1s')",
            is_met_by=lambda it: it.before is None or it.before.total_seconds() >= 1,
        ),
    )

    @property
    def before(self) -> timedelta | None:
        """`renewBefore` as a duration."""
        return None if self.renew_before is None else duration(self.renew_before)
