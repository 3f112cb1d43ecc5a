import msgspec
import pytest

from keyturn.core.errors import RefusedError
from keyturn.core.token_family import Intent, KeptToken, Lineage, live_token, read_lineage, token_fingerprint
from tests.support.dependencies import NOW

NAME = "license-keyturn"
OF = "license/license_token"
INTENT = Intent(holder="pod-1", spends="live", start=NOW, give_up_seconds=30)


def mark(token: str) -> str:
    """A fingerprint that a test can read."""
    return f"of {token}"


def lineage(*spent: str, seeds: tuple[str, ...] = ("seed",), live: str = "live") -> Lineage:
    return Lineage(of=OF, seeds=tuple(map(mark, seeds)), live=mark(live), spent=tuple(map(mark, spent)))


def kept(value: str, known: Lineage | None) -> KeptToken:
    return KeptToken(value, known, previous="before", uid="secret-1", version="7")


def refusal(handed_in: str, stored: KeptToken) -> RefusedError:
    with pytest.raises(RefusedError) as refused:
        live_token(handed_in, stored, mark, OF, NAME)
    return refused.value


@pytest.mark.parametrize(
    ("token", "known"),
    [
        pytest.param("live", True, id="the live one"),
        pytest.param("seed", True, id="the seed"),
        pytest.param("older seed", True, id="an earlier seed"),
        pytest.param("spent", True, id="a spent one"),
        pytest.param("new", False, id="a new one"),
    ],
)
def test_what_a_lineage_knows(token: str, *, known: bool) -> None:
    assert lineage("spent", seeds=("older seed", "seed")).knows(mark(token)) is known


@pytest.mark.parametrize(
    ("token", "spent"),
    [
        pytest.param("next", ["spent", "live"], id="another token: the live one is spent"),
        pytest.param("live", ["spent"], id="the same token: nothing is spent"),
    ],
)
def test_a_lineage_after_an_answer(token: str, spent: list[str]) -> None:
    after = lineage("spent").intended(INTENT).rotated(mark(token))

    assert after == lineage(*spent, live=token)
    assert after.intent is None


def test_a_new_seed_ends_the_use_of_what_was_live() -> None:
    after = lineage("spent").intended(INTENT).seeded(mark("new"))

    assert after == lineage("spent", "live", seeds=("seed", "new"), live="new")


def test_a_seed_that_is_live_already_is_not_spent() -> None:
    assert lineage("spent").seeded(mark("live")).spent == (mark("spent"),)


def test_the_last_hundred_spent_tokens_and_seeds_are_remembered() -> None:
    known = lineage()
    for number in range(150):
        known = known.rotated(f"r{number}")
    rotated = known
    for number in range(150):
        known = known.seeded(f"s{number}")

    assert (rotated.spent, rotated.seeds) == (tuple(f"r{n}" for n in range(49, 149)), (mark("seed"),))
    assert (known.seeds, len(known.spent)) == (tuple(f"s{n}" for n in range(50, 150)), 100)


def test_a_lineage_of_two_hundred_fits_an_annotation() -> None:
    known = lineage()
    for number in range(200):
        known = known.seeded(f"{number:016}")

    assert len(known.intended(INTENT).encoded()) < 8192


@pytest.mark.parametrize("written", [lineage("a", "b"), lineage(), lineage().intended(INTENT)])
def test_a_lineage_comes_back_as_it_was_written(written: Lineage) -> None:
    assert read_lineage(written.encoded()) == written


@pytest.mark.parametrize("annotation", ["", "{", "[]", "{}", '{"of":"a","seeds":"x","live":"y"}'])
def test_what_is_no_lineage(annotation: str) -> None:
    assert read_lineage(annotation) is None


def test_a_lineage_of_a_newer_release_can_be_read() -> None:
    assert read_lineage(lineage().encoded()[:-1] + ',"new":1}') == lineage()


def test_a_fingerprint_is_short_and_of_one_token_secret() -> None:
    mine = token_fingerprint("planted", "billing", NAME)

    assert len(mine) == 16
    assert len({mine, *(token_fingerprint(*other) for other in OTHERS)}) == 1 + len(OTHERS)
    assert mine == token_fingerprint("planted", "billing", NAME)


OTHERS = [("other", "billing", NAME), ("planted", "other", NAME), ("planted", "billing", "other")]


def test_without_a_kept_token_the_source_is_the_seed() -> None:
    assert live_token("seed", None, mark, OF, NAME) == KeptToken("seed", lineage(live="seed"))


@pytest.mark.parametrize(
    "handed_in",
    [
        pytest.param("seed", id="the seed, as GitOps puts it back"),
        pytest.param("spent", id="a spent token"),
        pytest.param("live", id="the live token itself"),
    ],
)
def test_a_source_of_the_lineage_is_no_news(handed_in: str) -> None:
    stored = kept("live", lineage("seed", "spent"))

    assert live_token(handed_in, stored, mark, OF, NAME) == stored


def test_a_source_that_is_new_is_a_new_seed_in_the_same_secret() -> None:
    found = live_token("new", kept("live", lineage("seed")), mark, OF, NAME)
    known = lineage("seed", "live", seeds=("seed", "new"), live="new")

    assert found == KeptToken("new", known, uid="secret-1", version="7")


def test_a_new_source_is_used_even_where_the_kept_token_was_put_back() -> None:
    assert live_token("new", kept("spent", lineage("spent")), mark, OF, NAME).value == "new"


@pytest.mark.parametrize("shown", [pytest.param("spent", id="spent"), pytest.param("", id="none")])
def test_a_kept_token_that_cannot_be_live_is_refused(shown: str) -> None:
    error = refusal("seed", kept(shown, lineage("seed", "spent")))

    assert error.reason == "StaleTokenRestored"
    assert error.message.startswith(f"Secret {NAME} shows ")


def test_a_kept_token_without_a_lineage_is_somebody_elses() -> None:
    error = refusal("seed", kept("theirs", None))

    assert error.reason == "TargetConflict"
    assert "choose another source.token.saveTo" in error.message


def test_a_kept_token_of_another_source_is_refused() -> None:
    other = msgspec.structs.replace(lineage(), of="license/other_token")
    error = refusal("seed", kept("theirs", other))

    assert error.reason == "TargetConflict"
    assert "keeps the token of license/other_token" in error.message


@pytest.mark.parametrize("start", ["2026-01-02T03:04:05", "soon"])
def test_a_time_of_no_zone_is_no_lineage(start: str) -> None:
    text = lineage().intended(INTENT).encoded().replace("2026-01-02T03:04:05Z", start)

    assert read_lineage(text) is None


def test_a_kept_token_that_nobody_knows_is_a_late_save() -> None:
    found = live_token("seed", kept("younger", lineage("seed").intended(INTENT)), mark, OF, NAME)

    assert (found.value, found.lineage) == ("younger", lineage("seed", "live", live="younger"))


def test_nothing_secret_is_in_a_repr() -> None:
    assert "planted" not in repr(KeptToken("planted", lineage(), "planted"))


@pytest.mark.parametrize(
    ("handed_in", "stored", "value"),
    [
        pytest.param("seed", kept("seed", lineage(live="seed")), "seed", id="nothing was answered yet"),
        pytest.param("new", kept("live", lineage("seed")), "new", id="a new one is handed in"),
    ],
)
def test_another_party_is_shown_only_what_was_handed_in(handed_in: str, stored: KeptToken, value: str) -> None:
    found = live_token(handed_in, stored, mark, f"{OF} party", NAME)

    assert (found.value, found.lineage and found.lineage.of) == (value, f"{OF} party")


def test_another_party_is_not_shown_what_one_answered() -> None:
    with pytest.raises(RefusedError, match="what another issuer or application answered") as refused:
        live_token("seed", kept("live", lineage("seed")), mark, f"{OF} party", NAME)

    assert refused.value.reason == "TargetConflict"
