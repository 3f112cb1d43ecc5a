"""Memory, cluster and files keep a token by one law."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from keyturn.controller.token_secrets import TokenSecrets
from keyturn.core.errors import KeyturnError
from keyturn.core.token_family import Intent, StoredToken, TokenFamily
from keyturn.reconcile.dependencies import TokenStore
from keyturn.standalone.token_files import TokenFiles
from tests.support.api_server import ApiServer
from tests.support.dependencies import NOW, rotating
from tests.support.rotation import KeptTokens
from tests.support.secret_store import SECRETS

REQUEST = rotating()
KNOWN = TokenFamily(source_id="license/license_token", initial_tokens=("1",), live="2", consumed=("1",))
INTENT = Intent(holder="pod-1", consumes="2", start=NOW, give_up_seconds=30)
KEPT = StoredToken("live", KNOWN, previous="before")
INTENDED = replace(KEPT, family=KNOWN.with_intent(INTENT))
NEXT = replace(KEPT, value="after", previous="live", family=KNOWN.rotated("3"))


@dataclass
class Side:
    """A token store, how somebody else takes its token away, and what was seen of it last."""

    tokens: TokenStore
    remove: Callable[[], object]
    held: StoredToken = KEPT


def sides(folder: Path) -> list[Side]:
    """Memory, cluster and files."""
    state, server, file = KeptTokens(), ApiServer(), folder / "license-keyturn.json"
    return [
        Side(state, state.kept.clear),
        Side(TokenSecrets(server), lambda: server.objects.pop(f"{SECRETS}/license-keyturn", None)),
        Side(TokenFiles(folder), lambda: file.unlink(missing_ok=True)),
    ]


Step = Callable[[Side], Awaitable[Any]]


def as_held(kept: StoredToken, side: Side) -> StoredToken:
    """A token that is about to replace the one that this side saw last."""
    return replace(kept, uid=side.held.uid, version=side.held.version)


async def read(side: Side) -> StoredToken | None:
    found = await side.tokens.read(REQUEST)
    side.held = found or side.held
    return found


def create(kept: StoredToken = KEPT) -> Step:
    async def step(side: Side) -> StoredToken:
        side.held = await side.tokens.create(REQUEST, kept)
        return side.held

    return step


def keep(kept: StoredToken = INTENDED, *, dry_run: bool = False) -> Step:
    async def step(side: Side) -> StoredToken:
        kept_now = await side.tokens.keep(REQUEST, as_held(kept, side), dry_run=dry_run)
        side.held = side.held if dry_run else kept_now
        return kept if dry_run else kept_now

    return step


def save(kept: StoredToken = NEXT) -> Step:
    return lambda side: side.tokens.save(REQUEST, as_held(kept, side))


def by_another(kept: StoredToken) -> Step:
    """Somebody else writes; this side does not see it."""

    async def step(side: Side) -> None:
        held = await side.tokens.read(REQUEST)
        assert held
        await side.tokens.keep(REQUEST, replace(kept, uid=held.uid, version=held.version))

    return step


def stored_with(family: TokenFamily) -> StoredToken:
    """What another has stored."""
    return replace(KEPT, value="stored", family=family)


async def remove(side: Side) -> None:
    side.remove()


async def story(side: Side, steps: list[Step]) -> list[Any]:
    """What each step gives, and what is kept afterwards; places and versions differ, and are left out."""
    told: list[Any] = []
    for step in [*steps, read]:
        try:
            given = await step(side)
        except KeyturnError as error:
            told.append(error.reason)
        else:
            told.append((given.value, given.previous, given.family) if given else None)
    return told


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([read], id="nothing"),
        pytest.param([create(), read], id="made"),
        pytest.param([create(), create(NEXT)], id="made twice"),
        pytest.param([keep()], id="kept where there is none"),
        pytest.param([create(), keep(dry_run=True), keep(), save()], id="a renewal"),
        pytest.param([create(), keep(), keep(KEPT)], id="an intent taken back"),
        pytest.param([create(), keep(NEXT, dry_run=True)], id="a rehearsal writes nothing"),
        pytest.param([create(), by_another(NEXT), keep()], id="kept over another's"),
        pytest.param([create(), by_another(NEXT), keep(dry_run=True)], id="rehearsed over another's"),
        pytest.param([create(), remove, keep()], id="kept after it was deleted"),
        pytest.param([create(), keep(), remove, save()], id="saved after it was deleted"),
        pytest.param([create(), keep(), save(), save()], id="saved twice"),
        *(
            pytest.param([create(), by_another(stored_with(family)), save()], id=f"saved late over {name}")
            for name, family in {
                "what was spent": KNOWN,
                "the same token": KNOWN.rotated("3"),
                "an old copy": TokenFamily(source_id=KNOWN.source_id, initial_tokens=("1",), live="1"),
                "another sign-in": KNOWN.with_initial_token("9"),
                "another's token for the same one": KNOWN.rotated("4"),
            }.items()
        ),
    ],
)  # fmt: skip
async def test_all_token_stores_tell_the_same_story(tmp_path: Path, steps: list[Step]) -> None:
    told = [await story(side, steps) for side in sides(tmp_path)]

    assert told[1] == told[0]
    assert told[2] == told[0]
