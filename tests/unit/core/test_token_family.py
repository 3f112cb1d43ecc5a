from dataclasses import replace
from typing import Any

import msgspec
import pytest

from keyturn.core.errors import RefusedError
from keyturn.core.token_family import (
    Intent,
    StoredToken,
    TokenFamily,
    is_superseded,
    live_token,
    read_family,
    token_fingerprint,
)
from tests.support.dependencies import NOW

SECRET = "license-keyturn"
SOURCE = "license/license_token"
INTENT = Intent(holder="pod-1", consumes="live", start=NOW, give_up_seconds=30)
LONG_INTENT = Intent(holder="pod-1", consumes="x" * 65, start=NOW, give_up_seconds=30)


def readable_fingerprint(token: str) -> str:
    return f"fingerprint of {token}"


def family(
    *consumed: str, initial_tokens: tuple[str, ...] = ("first",), live: str = "live", is_new: bool = False
) -> TokenFamily:
    return TokenFamily(
        source_id=SOURCE,
        initial_tokens=tuple(map(readable_fingerprint, initial_tokens)),
        live=readable_fingerprint(live),
        consumed=tuple(map(readable_fingerprint, consumed)),
        is_new=is_new,
    )


def stored(value: str, token_family: TokenFamily | None) -> StoredToken:
    return StoredToken(value, token_family, previous="before", uid="secret-1", version="7")


def find(source_token: str, stored_token: StoredToken | None, source_id: str = SOURCE) -> StoredToken:
    return live_token(source_token, stored_token, readable_fingerprint, source_id, SECRET)


@pytest.mark.parametrize(
    ("token", "expected"),
    [("live", True), ("first", True), ("older first", True), ("consumed", True), ("new", False)],
)
def test_family_has_seen_all_its_tokens(token: str, *, expected: bool) -> None:
    known = family("consumed", initial_tokens=("older first", "first"))

    assert known.has_seen(readable_fingerprint(token)) is expected


@pytest.mark.parametrize(
    ("token", "consumed"),
    [
        pytest.param("next", ["consumed", "live"], id="a new token"),
        pytest.param("live", ["consumed"], id="the same token"),
        pytest.param("consumed", ["live"], id="an earlier token"),
    ],
)
def test_rotation_consumes_all_tokens_but_the_returned_one(token: str, consumed: list[str]) -> None:
    rotated = family("consumed").with_intent(INTENT).rotated(readable_fingerprint(token))

    assert rotated == family(*consumed, live=token)
    assert rotated.intent is None


def test_older_family_does_not_supersede_a_token_that_was_returned_again() -> None:
    older = family("first", live="second")

    assert not is_superseded(older.rotated(readable_fingerprint("first")), older)


def test_new_initial_token_consumes_the_live_token() -> None:
    after = family("consumed").with_intent(INTENT).with_initial_token(readable_fingerprint("new"))

    assert after == family("consumed", "live", initial_tokens=("first", "new"), live="new", is_new=True)


def test_initial_token_that_is_live_is_not_consumed() -> None:
    after = family("consumed").with_initial_token(readable_fingerprint("live"))

    assert after.consumed == (readable_fingerprint("consumed"),)


def test_family_keeps_the_last_hundred_fingerprints_in_8_kib() -> None:
    rotated = family()
    for number in range(150):
        rotated = rotated.rotated(f"r{number:015}")
    signed_in = rotated
    for number in range(150):
        signed_in = signed_in.with_initial_token(f"s{number:015}")

    assert rotated.consumed == tuple(f"r{number:015}" for number in range(49, 149))
    assert rotated.initial_tokens == (readable_fingerprint("first"),)
    assert signed_in.initial_tokens == tuple(f"s{number:015}" for number in range(50, 150))
    assert len(signed_in.consumed) == 100
    assert len(signed_in.with_intent(INTENT).encoded()) < 8192


@pytest.mark.parametrize("written", [family("a", "b"), family(), family().with_intent(INTENT)])
def test_family_is_read_back_as_written(written: TokenFamily) -> None:
    assert read_family(written.encoded()) == written


@pytest.mark.parametrize(
    "annotation",
    [
        "", "{", "[]", "{}", '{"sourceId":"a","initialTokens":"x","live":"y"}',
        *(family().with_intent(INTENT).encoded().replace("2026-01-02T03:04:05Z", time)
          for time in ("2026-01-02T03:04:05", "soon")),
        '{"sourceId": "acme/token", "initialTokens": [], "live": "a"}',
        family().with_refused_attempt("x" * 32_768).encoded(), family().with_intent(LONG_INTENT).encoded(),
    ],
)  # fmt: skip
def test_invalid_annotation_is_read_as_none(annotation: str) -> None:
    assert read_family(annotation) is None


def test_family_of_a_newer_release_is_read() -> None:
    assert read_family(family().encoded()[:-1] + ',"new":1}') == family()


def test_fingerprint_depends_on_token_and_token_secret() -> None:
    arguments: list[Any] = [("planted", "billing", SECRET), ("other", "billing", SECRET)]
    arguments += [("planted", "other", SECRET), ("planted", "billing", "other")]
    fingerprints = [token_fingerprint(*each) for each in arguments]

    assert len({*fingerprints}) == 4
    assert len(fingerprints[0]) == 16
    assert fingerprints[0] == token_fingerprint("planted", "billing", SECRET)


def test_first_token_of_a_source_starts_a_family() -> None:
    assert find("first", None) == StoredToken("first", family(live="first", is_new=True))


def test_empty_secret_with_consent_starts_a_family() -> None:
    empty = StoredToken("", None, uid="secret-1", version="7", is_adoptable=True)

    expected = family(live="first", is_new=True)
    assert find("first", empty) == StoredToken("first", expected, uid="secret-1", version="7")


@pytest.mark.parametrize("token_secret", [stored("live", family("first")), StoredToken("", None)])
def test_token_secret_with_too_many_fields_is_refused(token_secret: StoredToken) -> None:
    with pytest.raises(RefusedError, match="more than 5,000 keys") as refused:
        find("first", replace(token_secret, has_too_many_fields=True))

    assert refused.value.reason == "TargetConflict"


@pytest.mark.parametrize("source_token", ["first", "consumed", "live"])
def test_source_token_that_was_seen_is_ignored(source_token: str) -> None:
    known = family("first", "consumed")
    chosen = find(source_token, stored("live", known))

    assert chosen == stored("live", known.with_token_in_source(readable_fingerprint(source_token)))


@pytest.mark.parametrize("value", ["live", "consumed"])
def test_new_source_token_replaces_any_stored_token(value: str) -> None:
    expected = family("consumed", "live", initial_tokens=("first", "new"), live="new", is_new=True)

    assert find("new", stored(value, family("consumed"))) == StoredToken("new", expected, uid="secret-1", version="7")


@pytest.mark.parametrize("value", ["consumed", ""])
def test_stored_token_that_cannot_be_live_is_refused(value: str) -> None:
    with pytest.raises(RefusedError, match=f"^Secret {SECRET} contains no token, or one that was already") as error:
        find("first", stored(value, family("first", "consumed")))

    assert error.value.reason == "StaleTokenRestored"


@pytest.mark.parametrize(
    ("token_family", "source_id", "message"),
    [
        pytest.param(
            None, SOURCE,
            r"was not created by Keyturn to store a token: choose another source\.token\.saveTo, or .*adoptable-by",
            id="a foreign Secret",
        ),
        pytest.param(
            msgspec.structs.replace(family(), source_id="license/other_token"), SOURCE,
            "contains the token of source license/other_token", id="another source",
        ),
        pytest.param(
            family("first"), f"{SOURCE} party",
            "contains a token of another issuer or application", id="another issuer",
        ),
    ],
)  # fmt: skip
def test_token_secret_of_something_else_is_refused(
    token_family: TokenFamily | None, source_id: str, message: str
) -> None:
    with pytest.raises(RefusedError, match=message) as error:
        find("first", stored("live", token_family), source_id)

    assert error.value.reason == "TargetConflict"


def test_unknown_stored_token_is_a_late_save_of_the_next_one() -> None:
    token = find("first", stored("younger", family("first").with_intent(INTENT)))

    assert (token.value, token.family) == ("younger", family("first", "live", live="younger"))


@pytest.mark.parametrize(
    ("source_token", "stored_token", "value"),
    [
        pytest.param("first", stored("first", family(live="first")), "first", id="no issuer returned a token yet"),
        pytest.param("new", stored("live", family("first")), "new", id="the source has a new token"),
    ],
)
def test_source_token_may_go_to_another_issuer(source_token: str, stored_token: StoredToken, value: str) -> None:
    token = find(source_token, stored_token, f"{SOURCE} party")

    assert (token.value, token.family and token.family.source_id) == (value, f"{SOURCE} party")


def test_repr_contains_no_secret() -> None:
    assert "planted" not in repr(StoredToken("planted", family(), "planted"))


def test_consumed_token_that_was_copied_into_the_source_is_never_forgotten() -> None:
    token = stored("copied", family("first", live="copied"))
    for number in range(250):
        token = find("copied", token)
        assert token.family
        value = f"token {number}"
        token = stored(value, token.family.rotated(readable_fingerprint(value)))

    assert find("copied", token).value == "token 249"
    assert token.family
    assert token.family.initial_tokens[-1] == readable_fingerprint("first")


@pytest.mark.parametrize("value", ["live\n", '"live"'])
def test_token_that_a_person_stored_with_other_characters_is_live(value: str) -> None:
    assert find("first", stored(value, family("first"))) == stored("live", family("first"))


def test_consumed_token_with_a_newline_is_refused() -> None:
    with pytest.raises(RefusedError) as refused:
        find("first", stored("consumed\n", family("first", "consumed")))
    assert refused.value.reason == "StaleTokenRestored"


def test_white_space_of_an_issued_token_is_kept() -> None:
    assert find("first", stored("live\n", family("first", live="live\n"))).value == "live\n"


def test_copy_is_refused_until_its_token_is_in_the_source() -> None:
    """Fingerprints depend on the namespace and the name, so a consumed token in the source is not recognized."""
    copied = stored("live", family("first", live="live under the former name"))
    with pytest.raises(RefusedError, match="copied from another namespace or name") as refused:
        find("consumed", copied)
    chosen = find("live", copied)

    assert refused.value.reason == "TargetConflict"
    assert chosen.value == "live"
    assert chosen.family
    assert chosen.family.live == readable_fingerprint("live")
