"""Labels and annotations of the Secrets that Keyturn writes."""

import re
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from keyturn.api.base import ApiStruct, Rule, in_re2

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


class SecretMetadata(ApiStruct, frozen=True):
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
