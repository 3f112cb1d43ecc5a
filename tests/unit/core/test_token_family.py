import msgspec
import pytest

from keyturn.core.errors import RefusedError
from keyturn.core.token_family import Intent, StoredToken, TokenFamily, live_token, read_family, token_fingerprint
from tests.support.dependencies import NOW

NAME = "license-keyturn"
OF = "license/license_token"
INTENT = Intent(holder="pod-1", consumes="live", start=NOW, give_up_seconds=30)


def mark(token: str) -> str:
    """A fingerprint that a test can read."""
    return f"of {token}"


def family(*consumed: str, initial_tokens: tuple[str, ...] = ("seed",), live: str = "live") -> TokenFamily:
    return TokenFamily(
        source_id=OF,
        initial_tokens=tuple(map(mark, initial_tokens)),
        live=mark(live),
        consumed=tuple(map(mark, consumed)),
    )


def kept(value: str, known: TokenFamily | None) -> StoredToken:
    return StoredToken(value, known, previous="before", uid="secret-1", version="7")


def refusal(handed_in: str, stored: StoredToken) -> RefusedError:
    with pytest.raises(RefusedError) as refused:
        live_token(handed_in, stored, mark, OF, NAME)
    return refused.value


@pytest.mark.parametrize(
    ("token", "known"),
    [
        pytest.param("live", True, id="the live one"),
        pytest.param("seed", True, id="the seed"),
        pytest.param("older seed", True, id="an earlier seed"),
        pytest.param("consumed", True, id="a spent one"),
        pytest.param("new", False, id="a new one"),
    ],
)
def test_what_a_lineage_knows(token: str, *, known: bool) -> None:
    assert family("consumed", initial_tokens=("older seed", "seed")).knows(mark(token)) is known


@pytest.mark.parametrize(
    ("token", "consumed"),
    [
        pytest.param("next", ["consumed", "live"], id="another token: the live one is spent"),
        pytest.param("live", ["consumed"], id="the same token: nothing is spent"),
    ],
)
def test_a_lineage_after_an_answer(token: str, consumed: list[str]) -> None:
    after = family("consumed").intended(INTENT).rotated(mark(token))

    assert after == family(*consumed, live=token)
    assert after.intent is None


def test_a_new_seed_ends_the_use_of_what_was_live() -> None:
    after = family("consumed").intended(INTENT).with_initial_token(mark("new"))

    assert after == family("consumed", "live", initial_tokens=("seed", "new"), live="new")


def test_a_seed_that_is_live_already_is_not_spent() -> None:
    assert family("consumed").with_initial_token(mark("live")).consumed == (mark("consumed"),)


def test_the_last_hundred_spent_tokens_and_seeds_are_remembered() -> None:
    known = family()
    for number in range(150):
        known = known.rotated(f"r{number}")
    rotated = known
    for number in range(150):
        known = known.with_initial_token(f"s{number}")

    assert (rotated.consumed, rotated.initial_tokens) == (tuple(f"r{n}" for n in range(49, 149)), (mark("seed"),))
    assert (known.initial_tokens, len(known.consumed)) == (tuple(f"s{n}" for n in range(50, 150)), 100)


def test_a_lineage_of_two_hundred_fits_an_annotation() -> None:
    known = family()
    for number in range(200):
        known = known.with_initial_token(f"{number:016}")

    assert len(known.intended(INTENT).encoded()) < 8192


@pytest.mark.parametrize("written", [family("a", "b"), family(), family().intended(INTENT)])
def test_a_lineage_comes_back_as_it_was_written(written: TokenFamily) -> None:
    assert read_family(written.encoded()) == written


@pytest.mark.parametrize("annotation", ["", "{", "[]", "{}", '{"sourceId":"a","initialTokens":"x","live":"y"}'])
def test_what_is_no_lineage(annotation: str) -> None:
    assert read_family(annotation) is None


def test_a_lineage_of_a_newer_release_can_be_read() -> None:
    assert read_family(family().encoded()[:-1] + ',"new":1}') == family()


def test_a_fingerprint_is_short_and_of_one_token_secret() -> None:
    mine = token_fingerprint("planted", "billing", NAME)

    assert len(mine) == 16
    assert len({mine, *(token_fingerprint(*other) for other in OTHERS)}) == 1 + len(OTHERS)
    assert mine == token_fingerprint("planted", "billing", NAME)


OTHERS = [("other", "billing", NAME), ("planted", "other", NAME), ("planted", "billing", "other")]


def test_without_a_kept_token_the_source_is_the_seed() -> None:
    assert live_token("seed", None, mark, OF, NAME) == StoredToken("seed", family(live="seed"))


@pytest.mark.parametrize(
    "handed_in",
    [
        pytest.param("seed", id="the seed, as GitOps puts it back"),
        pytest.param("consumed", id="a spent token"),
        pytest.param("live", id="the live token itself"),
    ],
)
def test_a_source_of_the_lineage_is_no_news(handed_in: str) -> None:
    stored = kept("live", family("seed", "consumed"))

    assert live_token(handed_in, stored, mark, OF, NAME) == stored


def test_a_source_that_is_new_is_a_new_seed_in_the_same_secret() -> None:
    found = live_token("new", kept("live", family("seed")), mark, OF, NAME)
    known = family("seed", "live", initial_tokens=("seed", "new"), live="new")

    assert found == StoredToken("new", known, uid="secret-1", version="7")


def test_a_new_source_is_used_even_where_the_kept_token_was_put_back() -> None:
    assert live_token("new", kept("consumed", family("consumed")), mark, OF, NAME).value == "new"


@pytest.mark.parametrize("shown", [pytest.param("consumed", id="consumed"), pytest.param("", id="none")])
def test_a_kept_token_that_cannot_be_live_is_refused(shown: str) -> None:
    error = refusal("seed", kept(shown, family("seed", "consumed")))

    assert error.reason == "StaleTokenRestored"
    assert error.message.startswith(f"Secret {NAME} shows ")


def test_a_kept_token_without_a_lineage_is_somebody_elses() -> None:
    error = refusal("seed", kept("theirs", None))

    assert error.reason == "TargetConflict"
    assert "choose another source.token.saveTo" in error.message


def test_a_kept_token_of_another_source_is_refused() -> None:
    other = msgspec.structs.replace(family(), source_id="license/other_token")
    error = refusal("seed", kept("theirs", other))

    assert error.reason == "TargetConflict"
    assert "keeps the token of license/other_token" in error.message


@pytest.mark.parametrize("start", ["2026-01-02T03:04:05", "soon"])
def test_a_time_of_no_zone_is_no_lineage(start: str) -> None:
    text = family().intended(INTENT).encoded().replace("2026-01-02T03:04:05Z", start)

    assert read_family(text) is None


def test_a_kept_token_that_nobody_knows_is_a_late_save() -> None:
    found = live_token("seed", kept("younger", family("seed").intended(INTENT)), mark, OF, NAME)

    assert (found.value, found.family) == ("younger", family("seed", "live", live="younger"))


def test_nothing_secret_is_in_a_repr() -> None:
    assert "planted" not in repr(StoredToken("planted", family(), "planted"))


@pytest.mark.parametrize(
    ("handed_in", "stored", "value"),
    [
        pytest.param("seed", kept("seed", family(live="seed")), "seed", id="nothing was answered yet"),
        pytest.param("new", kept("live", family("seed")), "new", id="a new one is handed in"),
    ],
)
def test_another_party_is_shown_only_what_was_handed_in(handed_in: str, stored: StoredToken, value: str) -> None:
    found = live_token(handed_in, stored, mark, f"{OF} party", NAME)

    assert (found.value, found.family and found.family.source_id) == (value, f"{OF} party")


def test_another_party_is_not_shown_what_one_answered() -> None:
    with pytest.raises(RefusedError, match="what another issuer or application answered") as refused:
        live_token("seed", kept("live", family("seed")), mark, f"{OF} party", NAME)

    assert refused.value.reason == "TargetConflict"
