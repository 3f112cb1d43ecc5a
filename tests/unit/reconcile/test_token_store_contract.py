"""The token stores in the cluster and in files behave alike."""

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
from tests.support.secret_store import SECRETS

REQUEST = rotating()
FAMILY = TokenFamily(source_id="license/license_token", initial_tokens=("1",), live="2", consumed=("1",))
INTENT = Intent(holder="pod-1", consumes="2", start=NOW, give_up_seconds=30)
STORED = StoredToken("live", FAMILY, previous="before")
INTENDED = replace(STORED, family=FAMILY.with_intent(INTENT))
ROTATED = replace(STORED, value="after", previous="live", family=FAMILY.rotated("3"))


@dataclass
class Side:
    """A token store, how another user deletes its token, and the token that was read last."""

    tokens: TokenStore
    remove: Callable[[], object]
    last_read: StoredToken = STORED


def sides(folder: Path) -> list[Side]:
    """Return the stores in the cluster and in files."""
    server, file = ApiServer(), folder / "license-keyturn.json"
    return [
        Side(TokenSecrets(server), lambda: server.objects.pop(f"{SECRETS}/license-keyturn", None)),
        Side(TokenFiles(folder), lambda: file.unlink(missing_ok=True)),
    ]


Step = Callable[[Side], Awaitable[Any]]


def with_version_of(stored: StoredToken, side: Side) -> StoredToken:
    """Return the token with the uid and version of the one that was read last."""
    return replace(stored, uid=side.last_read.uid, version=side.last_read.version)


async def read(side: Side) -> StoredToken | None:
    token = await side.tokens.read(REQUEST)
    side.last_read = token or side.last_read
    return token


def create(stored: StoredToken = STORED) -> Step:
    async def step(side: Side) -> StoredToken:
        side.last_read = await side.tokens.create(REQUEST, stored)
        return side.last_read

    return step


def keep(stored: StoredToken = INTENDED, *, dry_run: bool = False) -> Step:
    async def step(side: Side) -> StoredToken:
        kept_now = await side.tokens.keep(REQUEST, with_version_of(stored, side), dry_run=dry_run)
        side.last_read = side.last_read if dry_run else kept_now
        return stored if dry_run else kept_now

    return step


def save(stored: StoredToken = ROTATED) -> Step:
    return lambda side: side.tokens.save(REQUEST, with_version_of(stored, side))


def write_by_another(stored: StoredToken) -> Step:
    """Write as another client, without updating `last_read`."""

    async def step(side: Side) -> None:
        last_read = await side.tokens.read(REQUEST)
        assert last_read
        await side.tokens.keep(REQUEST, replace(stored, uid=last_read.uid, version=last_read.version))

    return step


def stored_with(family: TokenFamily) -> StoredToken:
    """A token that another client has stored."""
    return replace(STORED, value="stored", family=family)


async def remove(side: Side) -> None:
    side.remove()


async def run_steps(side: Side, steps: list[Step]) -> list[Any]:
    """Return the result or error of each step, and the stored token at the end, without uids and versions."""
    results: list[Any] = []
    for step in [*steps, read]:
        try:
            token = await step(side)
        except KeyturnError as error:
            results.append(error.reason)
        else:
            results.append((token.value, token.previous, token.family) if token else None)
    return results


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([read], id="nothing"),
        pytest.param([create(), read], id="created"),
        pytest.param([create(), create(ROTATED)], id="created twice"),
        pytest.param([keep()], id="kept without a token Secret"),
        pytest.param([create(), keep(dry_run=True), keep(), save()], id="a renewal"),
        pytest.param([create(), keep(), keep(STORED)], id="an intent withdrawn"),
        pytest.param([create(), keep(ROTATED, dry_run=True)], id="a dry run writes nothing"),
        pytest.param([create(), write_by_another(ROTATED), keep()], id="kept after a concurrent write"),
        pytest.param([create(), write_by_another(ROTATED), keep(dry_run=True)], id="dry run after a concurrent write"),
        pytest.param([create(), remove, keep()], id="kept after it was deleted"),
        pytest.param([create(), keep(), remove, save()], id="saved after it was deleted"),
        pytest.param([create(), keep(), save(), save()], id="saved twice"),
        *(
            pytest.param([create(), write_by_another(stored_with(family)), save()], id=f"saved late over {name}")
            for name, family in {
                "a consumed token": FAMILY,
                "the same token": FAMILY.rotated("3"),
                "an old copy": TokenFamily(source_id=FAMILY.source_id, initial_tokens=("1",), live="1"),
                "another sign-in": FAMILY.with_initial_token("9"),
                "a concurrent rotation of the same token": FAMILY.rotated("4"),
            }.items()
        ),
    ],
)  # fmt: skip
async def test_both_token_stores_behave_alike(tmp_path: Path, steps: list[Step]) -> None:
    in_cluster, in_files = [await run_steps(side, steps) for side in sides(tmp_path)]

    assert in_files == in_cluster
