"""One mistake."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trap:
    """A mistake: the path of its field, a sentence, and whether it surely `breaks` something or may."""

    path: str
    says: str
    breaks: bool = False
