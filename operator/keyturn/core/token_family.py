"""Token families: initial refresh tokens, the tokens that replaced them, and the intent to consume one.

An issuer that rotates refresh tokens may accept each of them once and revoke the whole family if a consumed one is sent
again (RFC 9700 section 4.14.2). So Keyturn records, before and after each use, which token is being consumed.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from keyturn.api.base import GROUP
from keyturn.api.times import Moment
from keyturn.core.errors import TOO_MANY_FIELDS, RefusedError
from keyturn.core.pipeline_values import unquoted
from keyturn.core.token_times import jwt_times

TOKEN_FAMILY_ANNOTATION = f"{GROUP}/token-family"
_MAX_FINGERPRINTS, _MAX_REFUSALS = 100, 20
# Several times as much as Keyturn writes.
_MAX_CHARACTERS = 32 * 1024


class Intent(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel", omit_defaults=True):
    """A process is about to consume the token with the fingerprint `consumes`, or died while doing so.

    `final_attempt` is set for the single retry after that. `final_attempt_after`: the holder received no response, and
    the final attempt may be made at this time, by any process.
    """

    holder: Annotated[str, Meta(max_length=253, pattern=r"^[ -~]*\Z")]
    consumes: Annotated[str, Meta(max_length=64)]
    start: Moment
    give_up_seconds: Annotated[int, Meta(ge=0, le=3600)]
    final_attempt: bool = False
    final_attempt_after: Moment | None = None


class TokenFamily(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel", omit_defaults=True):
    """The fingerprints of a family: `initial_tokens` from the source, `consumed` ones, and the `live` one.

    `is_new`: the live token is one from the source, and no issuer has accepted it yet. `expires` is when the live token
    expires, as stated by the response that it came with. `refused_attempts` identifies attempts that must not be
    repeated: they consumed a token, and the access token in return has no known expiry.
    `source_id` names the source by Secret and key, because two sources must not share a token Secret. For a single-use
    source it also names the issuer and the application that the stored token belongs to.
    """

    source_id: Annotated[str, Meta(max_length=600, pattern=r"^[ -~]*\Z")]
    initial_tokens: Annotated[tuple[str, ...], Meta(min_length=1)]
    live: str
    consumed: tuple[str, ...] = ()
    is_new: bool = False
    intent: Intent | None = None
    expires: Moment | None = None
    refused_attempts: tuple[str, ...] = ()

    def encoded(self) -> str:
        """The value of the annotation."""
        return msgspec.json.encode(self).decode()

    def has_seen(self, fingerprint: str) -> bool:
        """Whether the token is, or was, part of this family."""
        return fingerprint == self.live or fingerprint in self.initial_tokens or fingerprint in self.consumed

    def is_exclusive(self, fingerprint: str) -> bool:
        """Whether no other family may use the token: the issuer returned it for this one, or it may be consumed."""
        is_intended = self.intent is not None and self.intent.consumes == fingerprint
        is_unused = fingerprint == self.live and fingerprint in self.initial_tokens
        return is_intended or (self.has_seen(fingerprint) and not is_unused)

    def with_initial_token(self, fingerprint: str) -> "TokenFamily":
        """Return the family after a new sign-in, which makes the previous live token unusable."""
        consumed = (*self.consumed, *((self.live,) if self.live not in ("", fingerprint) else ()))
        initial_tokens = (*self.initial_tokens, fingerprint)[-_MAX_FINGERPRINTS:]
        return TokenFamily(
            source_id=self.source_id,
            initial_tokens=initial_tokens,
            live=fingerprint,
            consumed=consumed[-_MAX_FINGERPRINTS:],
            is_new=True,
        )

    def with_token_in_source(self, fingerprint: str) -> "TokenFamily":
        """Return the family with a consumed token that somebody copied into the source, so that it is never forgotten.

        Otherwise, after 100 more tokens, it would count as one that Keyturn has not seen.
        """
        if fingerprint in self.initial_tokens or fingerprint not in self.consumed:
            return self
        # At the front, because the last one identifies the source.
        initial_tokens = (fingerprint, *self.initial_tokens[1 - _MAX_FINGERPRINTS :])
        return msgspec.structs.replace(self, initial_tokens=initial_tokens)

    def rotated(self, fingerprint: str, expires: datetime | None = None) -> "TokenFamily":
        """Return the family, without an intent, after the issuer returned a token: a new one or an earlier one again.

        An empty fingerprint means that the issuer returned none and that the live one cannot be used a second time.
        """
        consumed = tuple(earlier for earlier in self.consumed if earlier != fingerprint)
        if self.live and fingerprint != self.live:
            consumed = (*consumed, self.live)[-_MAX_FINGERPRINTS:]
        return TokenFamily(
            source_id=self.source_id,
            initial_tokens=self.initial_tokens,
            live=fingerprint,
            consumed=consumed,
            expires=expires,
            refused_attempts=self.refused_attempts,
        )

    def with_intent(self, intent: Intent | None) -> "TokenFamily":
        """Return the family with this intent."""
        return msgspec.structs.replace(self, intent=intent)

    def with_refused_attempt(self, attempt: str) -> "TokenFamily":
        """Return the family with this attempt among those that must not be repeated."""
        return msgspec.structs.replace(self, refused_attempts=(*self.refused_attempts, attempt)[-_MAX_REFUSALS:])


@dataclass(frozen=True, slots=True)
class StoredToken:
    """The content of a token Secret: the live token, the one before it, and their family.

    `uid` and `version` identify the stored object; they are empty if it does not exist yet. `family` is None if the
    object has no valid annotation and so does not belong to Keyturn; `is_adoptable` if it is empty and its owner lets
    the request use it. `value` is empty once a single-use credential was consumed without a token in return.
    `missing_metadata` are the labels and annotations to add with the next write. `has_too_many_fields` is as in
    TargetSecret.
    """

    value: str = field(repr=False)
    family: TokenFamily | None
    previous: str = field(repr=False, default="")
    uid: str = ""
    version: str = ""
    is_adoptable: bool = False
    missing_metadata: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    has_too_many_fields: bool = False

    @property
    def is_consumed(self) -> bool:
        """Whether the last token was consumed, so that no renewal is possible."""
        return self.family is not None and not self.family.live

    @property
    def expires_at(self) -> datetime | None:
        """When the live token expires, as stated when it was issued; for the source's own token, its `exp`."""
        stated = self.family.expires if self.family else None
        return stated or (None if self.issued_token else jwt_times(self.value).expires_at)

    def expiry_after_use(self, token: str, stated: datetime | None, now: datetime) -> datetime | None:
        """Return when a token expires that a use of this one returned: as stated, or as before if it is the same token.

        An expiry that is past was wrong, as the issuer has accepted the token.
        """
        is_same = token == self.value and self.expires_at is not None and self.expires_at > now
        return stated or (self.expires_at if is_same else None)

    @property
    def issued_token(self) -> str | None:
        """The refresh token that the issuer returned; None while the live token is the source's own."""
        is_initial = self.family is None or self.family.live in self.family.initial_tokens
        return None if is_initial or self.is_consumed else self.value


def require_family(stored: StoredToken) -> TokenFamily:
    """Return the family of a token that live_token() returned, which always has one."""
    if stored.family is None:
        raise AssertionError("live_token() refuses a token Secret without a family")
    return stored.family


def read_family(annotation: str) -> TokenFamily | None:
    """Parse the annotation; None if it is invalid."""
    if len(annotation) > _MAX_CHARACTERS:
        return None
    try:
        return msgspec.json.decode(annotation, type=TokenFamily)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return None


def is_superseded(ours: TokenFamily, stored: TokenFamily) -> bool:
    """Whether `stored` is newer than `ours`: it lists our live token, or the one before it, as consumed."""
    latest = {ours.live, *ours.consumed[-1:]}
    # An issuer may return an earlier token again, which an older family lists as consumed, too.
    return stored.live not in latest and not latest.isdisjoint(stored.consumed)


def token_fingerprint(token: str, namespace: str, secret: str) -> str:
    """Return 64 bits that identify a token, keyed with the token Secret, which all requests for it share."""
    return hmac.new(f"{namespace}/{secret}".encode(), token.encode(), hashlib.sha256).hexdigest()[:16]


def live_token(
    source_token: str, stored: StoredToken | None, fingerprint: Callable[[str], str], source_id: str, secret: str
) -> StoredToken:
    """Return the token to use: the one in the source if the family has not seen it, else the stored one.

    A token in the source that the family has seen is ignored: GitOps may have restored it. Raises RefusedError:
    StaleTokenRestored if the token Secret contains a consumed token, TargetConflict if it belongs to something else.
    """
    source_fingerprint = fingerprint(source_token)
    if stored is None or stored.is_adoptable:
        family = TokenFamily(
            source_id=source_id, initial_tokens=(source_fingerprint,), live=source_fingerprint, is_new=True
        )
        return replace(stored or StoredToken("", None), value=source_token, family=family, is_adoptable=False)
    family = _require_same_source(stored, source_id, secret)
    if not family.has_seen(fingerprint(stored.value)):
        # A person may have stored it with a newline.
        stored = replace(stored, value=unquoted(stored.value))
    if not family.has_seen(source_fingerprint):
        if stored.value not in ("", source_token):
            _require_own_family(family, fingerprint(stored.value), secret)
        renewed = msgspec.structs.replace(family, source_id=source_id).with_initial_token(source_fingerprint)
        return replace(stored, value=source_token, family=renewed, previous="")
    if family.source_id != source_id:
        if stored.issued_token is not None:
            # The source's own token may be sent to another issuer; a token that one issuer returned may not.
            raise RefusedError(
                "TargetConflict",
                f"Secret {secret} contains a token of another issuer or application: choose another"
                " source.token.saveTo, or sign in again (kubectl keyturn login) and store the new token in the source",
            )
        family = msgspec.structs.replace(family, source_id=source_id)
        stored = replace(stored, family=family)
    if stored.is_consumed and not stored.value:
        return stored
    family = family.with_token_in_source(source_fingerprint)
    return _require_live(stored, family, fingerprint(stored.value), secret)


def _require_same_source(stored: StoredToken, source_id: str, secret: str) -> TokenFamily:
    if stored.has_too_many_fields:
        raise RefusedError("TargetConflict", f"Secret {secret} {TOO_MANY_FIELDS}: remove what Keyturn has not written")
    advice = "choose another source.token.saveTo"
    if stored.family is None:
        problem = "was not created by Keyturn to store a token"
        advice += ", or remove its data and set its annotation keyturn.dev/adoptable-by to the name of the TokenRequest"
    elif (source := stored.family.source_id.partition(" ")[0]) != source_id.partition(" ")[0]:
        problem = f"contains the token of source {source}"
    else:
        return stored.family
    raise RefusedError("TargetConflict", f"Secret {secret} {problem}: {advice}")


def _require_own_family(family: TokenFamily, fingerprint: str, secret: str) -> None:
    """Refuse a copy of another token Secret: its family recognizes no token, not even a consumed one in the source."""
    if not family.has_seen(fingerprint):
        raise RefusedError(
            "TargetConflict",
            f"Secret {secret} contains a token that is not in its token family, probably because it was copied from"
            " another namespace or name, so the token in the source may be consumed: restore the Secret under its"
            " former name, or delete it (kubectl keyturn forget) and sign in again (kubectl keyturn login)",
        )


def _require_live(stored: StoredToken, family: TokenFamily, fingerprint: str, secret: str) -> StoredToken:
    if not stored.value or fingerprint in family.consumed:
        raise RefusedError(
            "StaleTokenRestored",
            f"Secret {secret} contains no token, or one that was already consumed: restore the newest token, or sign in"
            " again (kubectl keyturn login)",
        )
    if fingerprint != family.live:
        # A process that was believed dead saved the issuer's response late: its token is newer and still valid.
        family = family.rotated(fingerprint)
    return replace(stored, family=family)
