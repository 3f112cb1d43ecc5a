"""The target Secret, and when to renew it."""

import re
from collections import Counter
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from keyturn.api.base import ApiStruct, Name, Rule, matching
from keyturn.api.formats.registry import FormatSpec, key_in_cel
from keyturn.api.times import DURATION, DURATION_WORDS, duration

# The syntax of label keys. Annotation keys have the same syntax, except that their prefix may have capital letters.
LABEL_NAME = (
    r"^([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*/)?"
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z"
)
LabelValue = Annotated[
    str,
    matching(
        r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?\Z",
        "empty, or letters, digits, '-', '_' and '.', with a letter or digit at the start and at the end",
        max_length=63,
    ),
]
LABEL_WORDS = (
    "1 to 63 letters, digits, '-', '_' and '.', with a letter or digit at the start and at the end, and perhaps a"
    " prefix such as example.com/"
)
RESERVED_PREFIX = r"^([^/]*\.)?keyturn\.dev/"
# Keyturn sets the first one. With the others, kubectl or a controller of Kubernetes deletes the Secret or trusts it.
RESERVED_NAMES = [
    "app.kubernetes.io/managed-by",
    "applyset.kubernetes.io/id",
    "applyset.kubernetes.io/part-of",
    "kubectl.kubernetes.io/last-applied-configuration",
    "kubernetes.io/service-account.name",
    "kubernetes.io/service-account.uid",
]
_LABELS_AND_ANNOTATIONS = "[has(self.labels) ? self.labels : {}, has(self.annotations) ? self.annotations : {}]"


def _in_re2(pattern: str) -> str:
    return pattern.removesuffix(r"\Z") + "$"


def _names(metadata: Any) -> tuple[str, ...]:
    return (*(metadata.labels or {}), *(metadata.annotations or {}))


def is_duration(field: str) -> str:
    """CEL: the field is a duration.

    The API server evaluates rules even if the field breaks its pattern. duration() would then fail, and the API server
    would print the whole rule.
    """
    return f"{field} != '' && {field}.matches('{_in_re2(DURATION)}')"


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
            message=f"names of labels and annotations must be {LABEL_WORDS}",
            cel=f"{_LABELS_AND_ANNOTATIONS}.all(m, m.all(k, k.matches(r'{_in_re2(LABEL_NAME)}')))",
            is_met_by=lambda metadata: all(re.search(LABEL_NAME, name) for name in _names(metadata)),
        ),
        Rule(
            message="labels and annotations must not have the prefix keyturn.dev/, which Keyturn uses, or one of the"
            f" names {', '.join(RESERVED_NAMES)}",
            cel=f"""
                {_LABELS_AND_ANNOTATIONS}.all(m, m.all(k,
                    !(k in {RESERVED_NAMES}) && !k.matches(r'{RESERVED_PREFIX}')))
            """,
            is_met_by=lambda metadata: (
                not any(name in RESERVED_NAMES or re.search(RESERVED_PREFIX, name) for name in _names(metadata))
            ),
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
    """How long before expiry to renew, at most half of the actual lifetime."""

    renew_before: (
        Annotated[
            str,
            matching(
                DURATION,
                DURATION_WORDS,
                min_length=2,
                max_length=20,
                description="How long before expiry, such as 20m or 1h30m. Limited to half of the actual lifetime.",
            ),
        ]
        | None
    ) = None
    renew_before_percentage: (
        Annotated[
            Annotated[int, Meta(ge=1, le=99)],
            Meta(description="How long before expiry, as a percentage of the actual lifetime. Limited to 50."),
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
