"""The target Secret, and when to renew it."""

import re
from collections import Counter
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from keyturn.api.base import ApiStruct, Name, Rule, in_re2
from keyturn.api.formats.registry import FormatSpec, key_in_cel
from keyturn.api.times import DURATION, duration, is_duration

# The syntax of label keys. Annotation keys have the same syntax, except that their prefix may have capital letters.
LABEL_NAME = (
    r"^([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*/)?"
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z"
)
LabelValue = Annotated[str, Meta(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?\Z")]
RESERVED_PREFIX = r"^([^/]*\.)?(keyturn\.dev|kubernetes\.io|k8s\.io)/"
_LABELS_AND_ANNOTATIONS = "[has(self.labels) ? self.labels : {}, has(self.annotations) ? self.annotations : {}]"


def _names(metadata: Any) -> tuple[str, ...]:
    return (*(metadata.labels or {}), *(metadata.annotations or {}))


class TargetMetadata(ApiStruct, frozen=True):
    """Labels and annotations to set on the Secret. Those of the TokenRequest are not copied."""

    labels: (
        Annotated[
            dict[Annotated[str, Meta(max_length=317)], LabelValue],
            Meta(max_length=32, description="Labels of the Secret."),
        ]
        | None
    ) = None
    annotations: (
        Annotated[
            dict[Annotated[str, Meta(max_length=317)], Annotated[str, Meta(max_length=8192)]],
            Meta(max_length=32, description="Annotations of the Secret."),
        ]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="names of labels and annotations must have 1 to 63 letters, digits, '-', '_' or '.', must start and"
            " end with a letter or digit, and may have a prefix such as example.com/",
            cel=f"{_LABELS_AND_ANNOTATIONS}.all(m, m.all(k, k.matches(r'{in_re2(LABEL_NAME)}')))",
            is_met_by=lambda metadata: all(re.search(LABEL_NAME, name) for name in _names(metadata)),
        ),
        Rule(
            message="labels and annotations with the prefixes keyturn.dev, kubernetes.io and k8s.io are reserved",
            cel=f"{_LABELS_AND_ANNOTATIONS}.all(m, m.all(k, !k.matches(r'{RESERVED_PREFIX}')))",
            is_met_by=lambda metadata: not any(re.search(RESERVED_PREFIX, name) for name in _names(metadata)),
        ),
    )


class TargetSpec(ApiStruct, frozen=True):
    """The target Secret."""

    secret_name: (
        Annotated[Name, Meta(description="Name of the Secret. Default: the name of the TokenRequest.")] | None
    ) = None
    formats: (
        Annotated[
            tuple[FormatSpec, ...],
            Meta(
                min_length=1,
                max_length=8,
                description="Formats to write. Default: env and credentialProcess if the last exchange produces"
                " credentials, dockerConfigJson for registry logins, token for a token.",
            ),
        ]
        | None
    ) = None
    metadata: TargetMetadata | None = None
    deletion_policy: (
        Annotated[
            Literal["Delete", "Retain"],
            Meta(description="Whether to delete the Secret with the TokenRequest or retain it. Default: Delete."),
        ]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="two formats write the same key: set a different `key` on one of them",
            cel=f"""
                !has(self.formats) || [self.formats.map(f, {key_in_cel("f")})].all(keys,
                    keys.all(k, keys.exists_one(other, other == k)))
            """,
            is_met_by=lambda target: (
                max(Counter(key for f in target.formats or () for key in f.options.keys).values(), default=1) == 1
            ),
        ),
        Rule(
            message="format awsConfig requires a credentialProcess format",
            cel="""
                !has(self.formats) || !self.formats.exists(f, has(f.awsConfig)) ||
                self.formats.exists(f, has(f.credentialProcess))
            """,
            is_met_by=lambda target: (
                not any(f.aws_config for f in target.formats or ()) or any(f.credential_process for f in target.formats)
            ),
        ),
    )


class RenewalSpec(ApiStruct, frozen=True):
    """How long before expiry to renew: at most 95% of the actual lifetime, so that renewals cannot loop."""

    renew_before: (
        Annotated[
            str,
            Meta(
                min_length=2,
                max_length=20,
                pattern=DURATION,
                description="How long before expiry, such as 20m or 1h30m. At most 95% of the actual lifetime is"
                " used, and half of it if renewBefore is not shorter than the lifetime.",
            ),
        ]
        | None
    ) = None
    renew_before_percentage: (
        Annotated[
            Annotated[int, Meta(ge=1, le=99)],
            Meta(description="How long before expiry, as a percentage of the actual lifetime. At most 95 is used."),
        ]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="renewBefore and renewBeforePercentage are mutually exclusive",
            cel="!has(self.renewBefore) || !has(self.renewBeforePercentage)",
            is_met_by=lambda renewal: renewal.renew_before is None or renewal.renew_before_percentage is None,
        ),
        Rule(
            message="renewBefore must be at least 1s",
            cel=f"""
                !has(self.renewBefore) || !({is_duration("self.renewBefore")}) ||
                duration(self.renewBefore) >= duration('1s')
            """,
            is_met_by=lambda renewal: renewal.before is None or renewal.before.total_seconds() >= 1,
        ),
    )

    @property
    def before(self) -> timedelta | None:
        """`renewBefore` as a timedelta."""
        return None if self.renew_before is None else duration(self.renew_before)
