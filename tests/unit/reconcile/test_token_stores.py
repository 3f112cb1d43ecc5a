"""What the token stores in the cluster and in files have in common."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from keyturn.controller.token_secrets import TokenSecrets
from keyturn.core.errors import UnavailableError
from keyturn.core.token_family import Intent, StoredToken, TokenFamily
from keyturn.reconcile.dependencies import TokenStore
from keyturn.standalone.token_files import TokenFiles
from tests.support.api_server import ApiServer
from tests.support.dependencies import NOW, rotating
from tests.support.secret_store import SECRETS

REQUEST = rotating()
FAMILY = TokenFamily(source_id="license/license_token", initial_tokens=("1",), live="2", consumed=("1",))
INTENT = Intent(holder="pod-1", consumes="2", start=NOW, give_up_seconds=30)
TOKEN = StoredToken("live", FAMILY.with_intent(INTENT), previous="before")
NEXT = replace(TOKEN, value="after", previous="live", family=FAMILY.rotated("3"))


@dataclass
class Place:
    """A token store, and how a user deletes its token."""

    tokens: TokenStore
    delete: Callable[[], object]

    async def write_concurrently(self, stored: StoredToken, family: TokenFamily) -> None:
        await self.tokens.update(REQUEST, replace(stored, value="stored", family=family))

    async def content(self) -> tuple[str, str, TokenFamily | None] | None:
        token = await self.tokens.read(REQUEST)
        return (token.value, token.previous, token.family) if token else None


@pytest.fixture(params=["in the cluster", "in files"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    server, file = ApiServer(), tmp_path / "license-keyturn.json"
    if request.param == "in files":
        return Place(TokenFiles(tmp_path), file.unlink)
    return Place(TokenSecrets(server), lambda: server.objects.pop(f"{SECRETS}/license-keyturn"))


def received(stored: StoredToken) -> StoredToken:
    """Return the token to save after the exchange of a stored one."""
    return replace(NEXT, uid=stored.uid, version=stored.version)


async def test_created_token_is_read_back(place: Place) -> None:
    assert await place.tokens.read(REQUEST) is None
    created = await place.tokens.create(REQUEST, TOKEN)

    assert await place.tokens.read(REQUEST) == created
    assert created == replace(TOKEN, uid=created.uid, version=created.version)


async def test_existing_token_is_not_created_again(place: Place) -> None:
    await place.tokens.create(REQUEST, TOKEN)

    with pytest.raises(UnavailableError):
        await place.tokens.create(REQUEST, NEXT)
    assert await place.content() == ("live", "before", TOKEN.family)


async def test_kept_and_saved_tokens_are_read_back(place: Place) -> None:
    created = await place.tokens.create(REQUEST, replace(TOKEN, family=FAMILY))
    intended = await place.tokens.update(REQUEST, replace(created, family=TOKEN.family))
    assert await place.content() == ("live", "before", TOKEN.family)

    await place.tokens.prepare_save(REQUEST, received(intended))()
    assert await place.content() == ("after", "live", NEXT.family)


async def test_dry_run_writes_nothing(place: Place) -> None:
    created = await place.tokens.create(REQUEST, TOKEN)
    await place.tokens.update(REQUEST, received(created), dry_run=True)

    assert await place.tokens.read(REQUEST) == created


@pytest.mark.parametrize("dry_run", [True, False])
async def test_keep_does_not_overwrite_a_changed_token(place: Place, *, dry_run: bool) -> None:
    created = await place.tokens.create(REQUEST, TOKEN)
    await place.write_concurrently(created, NEXT.family or FAMILY)

    with pytest.raises(UnavailableError, match="was changed"):
        await place.tokens.update(REQUEST, created, dry_run=dry_run)
    assert await place.content() == ("stored", "before", NEXT.family)


async def test_keep_does_not_recreate_a_deleted_token(place: Place) -> None:
    created = await place.tokens.create(REQUEST, TOKEN)
    place.delete()

    with pytest.raises(UnavailableError):
        await place.tokens.update(REQUEST, created)
    assert await place.content() is None


@pytest.mark.parametrize("recreated", [False, True])
async def test_save_succeeds_after_a_deletion(place: Place, *, recreated: bool) -> None:
    created = await place.tokens.create(REQUEST, TOKEN)
    place.delete()
    if recreated:
        await place.tokens.create(REQUEST, TOKEN)
    await place.tokens.prepare_save(REQUEST, received(created))()

    assert await place.content() == ("after", "live", NEXT.family)


@pytest.mark.parametrize(
    ("family", "value"),
    [
        pytest.param(FAMILY, "after", id="the token that was consumed"),
        pytest.param(FAMILY.rotated("3"), "after", id="the same token, as after a lost response"),
        pytest.param(
            TokenFamily(source_id=FAMILY.source_id, initial_tokens=("1",), live="1"), "after", id="an old copy"
        ),
        pytest.param(FAMILY.with_initial_token("9"), "stored", id="the user has signed in again"),
        pytest.param(FAMILY.rotated("4"), "stored", id="a token that another process received"),
    ],
)
async def test_late_save_is_kept_unless_superseded(place: Place, family: TokenFamily, value: str) -> None:
    created = await place.tokens.create(REQUEST, TOKEN)
    await place.write_concurrently(created, family)
    saved = await place.tokens.prepare_save(REQUEST, received(created))()
    content = await place.content()

    assert content
    assert saved.value == content[0] == value
