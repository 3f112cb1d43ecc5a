"""Labels and annotations of the Secrets that Keyturn writes."""

import re
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from keyturn.api.base import ApiStruct, Rule, in_re2, matching

# The syntax of label keys. Annotation keys have the same syntax, except that their prefix may have capital letters.
LABEL_NAME = (
    r"^([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*/)?"
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z"
)
LABEL_WORDS = (
    "1 to 63 letters, digits, '-', '_' and '.', with a letter or digit at the start and at the end, optionally"
    " with a prefix such as example.com/"
)
LabelValue = Annotated[
    str,
    matching(
        r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?\Z",
        "empty, or letters, digits, '-', '_' and '.', with a letter or digit at the start and at the end",
        max_length=63,
    ),
]
RESERVED_PREFIX = r"^([^/]*\.)?keyturn\.dev/"
# Keyturn sets the first one. The others can make kubectl or a Kubernetes controller delete the Secret or trust it.
RESERVED_NAMES = [
    "app.kubernetes.io/managed-by",
    "applyset.kubernetes.io/id",
    "applyset.kubernetes.io/part-of",
    "kubectl.kubernetes.io/last-applied-configuration",
    "kubernetes.io/service-account.name",
    "kubernetes.io/service-account.uid",
]
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
            message=f"names of labels and annotations must be {LABEL_WORDS}",
            cel=f"{_LABELS_AND_ANNOTATIONS}.all(m, m.all(k, k.matches(r'{in_re2(LABEL_NAME)}')))",
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
