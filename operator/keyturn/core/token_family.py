"""The lineage of a rotating token: what the user handed in, what it became, and who is spending it.

A refresh token may be good for one use, and its issuer may end the whole family when a spent one is sent again
(RFC 9700 section 4.14.2). So what is spent, and what may be, is written down before and after each use.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated

import msgspec
from msgspec import Meta

from keyturn.api.times import Moment
from keyturn.api.token_request import GROUP
from keyturn.core.errors import RefusedError

LINEAGE = f"{GROUP}/token-family"
_REMEMBERED = 100

Fingerprint = Callable[[str], str]


class Intent(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Somebody is about to spend a token, or died doing it. `careful` marks the one try after such a death."""

    holder: Annotated[str, Meta(max_length=253, pattern=r"^[ -~]*\Z")]
    spends: str
    start: Moment
    give_up_seconds: Annotated[int, Meta(ge=0, le=3600)]
    careful: bool = False


class Lineage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Fingerprints: `seeds` of what the user handed in, `spent` of what is spent, `live` of the one to use.

    `of` is the source, Secret and key: two sources must not share a token Secret. Where the source works only
    once, who answered what is kept is in it too.
    """

    of: Annotated[str, Meta(max_length=600, pattern=r"^[ -~]*\Z")]
    seeds: tuple[str, ...]
    live: str
    spent: tuple[str, ...] = ()
    intent: Intent | None = None

    def encoded(self) -> str:
        """The annotation's value."""
        return msgspec.json.encode(self).decode()

    def knows(self, token: str) -> bool:
        """Whether a fingerprint is of this lineage, and so says nothing new."""
        return token == self.live or token in self.seeds or token in self.spent

    def seeded(self, token: str) -> "Lineage":
        """The lineage after the user signed in again: what was live before is not to be used any more."""
        spent = (*self.spent, *((self.live,) if self.live not in ("", token) else ()))
        seeds = (*self.seeds, token)[-_REMEMBERED:]
        return Lineage(of=self.of, seeds=seeds, live=token, spent=spent[-_REMEMBERED:])

    def rotated(self, token: str) -> "Lineage":
        """The lineage after the issuer answered with `token`, or with none new, when it is the live one again.

        An empty one leaves nothing to go on with: what is live works only once.
        """
        spent = self.spent if token == self.live or not self.live else (*self.spent, self.live)[-_REMEMBERED:]
        return Lineage(of=self.of, seeds=self.seeds, live=token, spent=spent)

    def intended(self, intent: Intent | None) -> "Lineage":
        """The lineage with another intent."""
        return msgspec.structs.replace(self, intent=intent)


@dataclass(frozen=True, slots=True)
class KeptToken:
    """The token Secret: the live token, the one before it for one cycle, and the lineage of both.

    `uid` and `version` are those of the stored object, empty for one that does not exist yet. `lineage` is None
    where there is none that can be read: then it is not ours. `value` is empty where what the user handed in
    works only once, and is spent.
    """

    value: str = field(repr=False)
    lineage: Lineage | None
    previous: str = field(repr=False, default="")
    uid: str = ""
    version: str = ""

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left to go on with."""
        return self.lineage is not None and not self.lineage.live

    @property
    def answered(self) -> str | None:
        """The refresh token that an issuer answered, None where it is still what the user handed in."""
        seeded = self.lineage is None or self.lineage.live in self.lineage.seeds
        return None if seeded or self.is_spent else self.value


def read_lineage(annotation: str) -> Lineage | None:
    """Read the annotation; None where it is not one."""
    try:
        return msgspec.json.decode(annotation, type=Lineage)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return None


def is_overtaken(ours: Lineage, now: Lineage) -> bool:
    """Whether what is stored `now` came after `ours`: it knows our token, or the one that we spent, as spent."""
    return now.live != ours.live and not {ours.live, *ours.spent[-1:]}.isdisjoint(now.spent)


def token_fingerprint(token: str, namespace: str, secret: str) -> str:
    """64 bits that tell a token from another, keyed with the token Secret that all its requests share."""
    return hmac.new(f"{namespace}/{secret}".encode(), token.encode(), hashlib.sha256).hexdigest()[:16]


def live_token(handed_in: str, kept: KeptToken | None, marked: Fingerprint, of: str, secret: str) -> KeptToken:
    """Find the token to use: the source's if it is new, else the kept one.

    A source that shows anything of the lineage, as GitOps puts it back, is no news. Raises RefusedError:
    StaleTokenRestored where the token Secret shows a spent token, TargetConflict where it is not ours.
    """
    mark = marked(handed_in)
    if kept is None:
        return KeptToken(handed_in, Lineage(of=of, seeds=(mark,), live=mark))
    lineage = _of_source(kept, of, secret)
    if not lineage.knows(mark):
        anew = msgspec.structs.replace(lineage, of=of).seeded(mark)
        return KeptToken(handed_in, anew, uid=kept.uid, version=kept.version)
    if lineage.of != of:
        kept = _of_party(kept, lineage, of, secret)
        lineage = kept.lineage or lineage
    return kept if kept.is_spent and not kept.value else _as_shown(kept, lineage, marked(kept.value), secret)


def _of_source(kept: KeptToken, of: str, secret: str) -> Lineage:
    source = kept.lineage.of.partition(" ")[0] if kept.lineage else ""
    if kept.lineage is None or source != of.partition(" ")[0]:
        keeps = f"keeps the token of {source}" if kept.lineage else "was not made by Keyturn to keep a token in"
        raise RefusedError("TargetConflict", f"Secret {secret} {keeps}; choose another source.token.saveTo")
    return kept.lineage


def _of_party(kept: KeptToken, lineage: Lineage, of: str, secret: str) -> KeptToken:
    """What was never answered may still be shown to another party; what one answered is for nobody else."""
    if kept.answered is not None:
        raise RefusedError(
            "TargetConflict",
            f"Secret {secret} keeps what another issuer or application answered; choose another"
            " source.token.saveTo, or put a new one in the source",
        )
    return replace(kept, lineage=msgspec.structs.replace(lineage, of=of))


def _as_shown(kept: KeptToken, lineage: Lineage, shown: str, secret: str) -> KeptToken:
    if not kept.value or shown in lineage.spent:
        raise RefusedError(
            "StaleTokenRestored",
            f"Secret {secret} shows no token or a spent one; put back the newest, or a new one in the source",
        )
    if shown != lineage.live:
        # The late save of a holder that was given up: younger than what we know, and alive.
        lineage = lineage.rotated(shown)
    return KeptToken(kept.value, lineage, kept.previous, kept.uid, kept.version)
