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

from keyturn.api.base import GROUP
from keyturn.api.times import Moment
from keyturn.core.errors import RefusedError

TOKEN_FAMILY_ANNOTATION = f"{GROUP}/token-family"
_REMEMBERED = 100

Fingerprint = Callable[[str], str]


class Intent(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Somebody is about to spend a token, or died doing it. `careful` marks the one try after such a death."""

    holder: Annotated[str, Meta(max_length=253, pattern=r"^[ -~]*\Z")]
    consumes: str
    start: Moment
    give_up_seconds: Annotated[int, Meta(ge=0, le=3600)]
    final_attempt: bool = False


class TokenFamily(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Fingerprints: `seeds` of what the user handed in, `spent` of what is spent, `live` of the one to use.

    `of` is the source, Secret and key: two sources must not share a token Secret. Where the source works only
    once, who answered what is kept is in it too.
    """

    source_id: Annotated[str, Meta(max_length=600, pattern=r"^[ -~]*\Z")]
    initial_tokens: tuple[str, ...]
    live: str
    consumed: tuple[str, ...] = ()
    intent: Intent | None = None

    def encoded(self) -> str:
        """The annotation's value."""
        return msgspec.json.encode(self).decode()

    def knows(self, token: str) -> bool:
        """Whether a fingerprint is of this lineage, and so says nothing new."""
        return token == self.live or token in self.initial_tokens or token in self.consumed

    def with_initial_token(self, token: str) -> "TokenFamily":
        """The lineage after the user signed in again: what was live before is not to be used any more."""
        consumed = (*self.consumed, *((self.live,) if self.live not in ("", token) else ()))
        initial_tokens = (*self.initial_tokens, token)[-_REMEMBERED:]
        return TokenFamily(
            source_id=self.source_id, initial_tokens=initial_tokens, live=token, consumed=consumed[-_REMEMBERED:]
        )

    def rotated(self, token: str) -> "TokenFamily":
        """The lineage after the issuer answered with `token`, or with none new, when it is the live one again.

        An empty one leaves nothing to go on with: what is live works only once.
        """
        consumed = self.consumed if token == self.live or not self.live else (*self.consumed, self.live)[-_REMEMBERED:]
        return TokenFamily(source_id=self.source_id, initial_tokens=self.initial_tokens, live=token, consumed=consumed)

    def intended(self, intent: Intent | None) -> "TokenFamily":
        """The lineage with another intent."""
        return msgspec.structs.replace(self, intent=intent)


@dataclass(frozen=True, slots=True)
class StoredToken:
    """The token Secret: the live token, the one before it for one cycle, and the lineage of both.

    `uid` and `version` are those of the stored object, empty for one that does not exist yet. `lineage` is None
    where there is none that can be read: then it is not ours. `value` is empty where what the user handed in
    works only once, and is spent.
    """

    value: str = field(repr=False)
    family: TokenFamily | None
    previous: str = field(repr=False, default="")
    uid: str = ""
    version: str = ""

    @property
    def is_consumed(self) -> bool:
        """Whether nothing is left to go on with."""
        return self.family is not None and not self.family.live

    @property
    def answered(self) -> str | None:
        """The refresh token that an issuer answered, None where it is still what the user handed in."""
        with_initial_token = self.family is None or self.family.live in self.family.initial_tokens
        return None if with_initial_token or self.is_consumed else self.value


def read_family(annotation: str) -> TokenFamily | None:
    """Read the annotation; None where it is not one."""
    try:
        return msgspec.json.decode(annotation, type=TokenFamily)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return None


def is_superseded(ours: TokenFamily, now: TokenFamily) -> bool:
    """Whether what is stored `now` came after `ours`: it knows our token, or the one that we spent, as spent."""
    return now.live != ours.live and not {ours.live, *ours.consumed[-1:]}.isdisjoint(now.consumed)


def token_fingerprint(token: str, namespace: str, secret: str) -> str:
    """64 bits that tell a token from another, keyed with the token Secret that all its requests share."""
    return hmac.new(f"{namespace}/{secret}".encode(), token.encode(), hashlib.sha256).hexdigest()[:16]


def live_token(
    handed_in: str, kept: StoredToken | None, marked: Fingerprint, source_id: str, secret: str
) -> StoredToken:
    """Find the token to use: the source's if it is new, else the kept one.

    A source that shows anything of the lineage, as GitOps puts it back, is no news. Raises RefusedError:
    StaleTokenRestored where the token Secret shows a spent token, TargetConflict where it is not ours.
    """
    mark = marked(handed_in)
    if kept is None:
        return StoredToken(handed_in, TokenFamily(source_id=source_id, initial_tokens=(mark,), live=mark))
    family = _of_source(kept, source_id, secret)
    if not family.knows(mark):
        anew = msgspec.structs.replace(family, source_id=source_id).with_initial_token(mark)
        return StoredToken(handed_in, anew, uid=kept.uid, version=kept.version)
    if family.source_id != source_id:
        kept = _of_party(kept, family, source_id, secret)
        family = kept.family or family
    return kept if kept.is_consumed and not kept.value else _as_shown(kept, family, marked(kept.value), secret)


def _of_source(kept: StoredToken, source_id: str, secret: str) -> TokenFamily:
    source = kept.family.source_id.partition(" ")[0] if kept.family else ""
    if kept.family is None or source != source_id.partition(" ")[0]:
        keeps = f"keeps the token of {source}" if kept.family else "was not made by Keyturn to keep a token in"
        raise RefusedError("TargetConflict", f"Secret {secret} {keeps}; choose another source.token.saveTo")
    return kept.family


def _of_party(kept: StoredToken, family: TokenFamily, source_id: str, secret: str) -> StoredToken:
    """What was never answered may still be shown to another party; what one answered is for nobody else."""
    if kept.answered is not None:
        raise RefusedError(
            "TargetConflict",
            f"Secret {secret} keeps what another issuer or application answered; choose another"
            " source.token.saveTo, or put a new one in the source",
        )
    return replace(kept, family=msgspec.structs.replace(family, source_id=source_id))


def _as_shown(kept: StoredToken, family: TokenFamily, shown: str, secret: str) -> StoredToken:
    if not kept.value or shown in family.consumed:
        raise RefusedError(
            "StaleTokenRestored",
            f"Secret {secret} shows no token or a spent one; put back the newest, or a new one in the source",
        )
    if shown != family.live:
        # The late save of a holder that was given up: younger than what we know, and alive.
        family = family.rotated(shown)
    return StoredToken(kept.value, family, kept.previous, kept.uid, kept.version)
