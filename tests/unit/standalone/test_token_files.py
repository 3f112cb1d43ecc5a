import json
from dataclasses import replace
from pathlib import Path

import pytest

from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.token_family import StoredToken, TokenFamily
from keyturn.standalone.atomic_files import locked
from keyturn.standalone.token_files import FileTokens
from tests.support.dependencies import ASSUME_ROLE, REFRESH, request, rotating
from tests.support.disk import full, no_longer_files, read_only, small_disk
from tests.support.mounts import names
from tests.unit.reconcile.test_token_store_contract import INTENDED, KEPT, KNOWN, NEXT

REQUEST = rotating()
PLANTED = replace(KEPT, value="planted-token", previous="planted-before")


async def kept(folder: Path) -> tuple[FileTokens, StoredToken]:
    tokens = FileTokens(folder)
    return tokens, await tokens.create(REQUEST, PLANTED)


def file(folder: Path) -> Path:
    return folder / "license-keyturn.json"


async def test_it_is_for_its_owner_only(tmp_path: Path) -> None:
    tokens, made = await kept(tmp_path)
    await tokens.keep(REQUEST, made, dry_run=True)

    assert {(tmp_path / name).stat().st_mode & 0o777 for name in names(tmp_path)} == {0o600}


async def test_another_process_finds_it(tmp_path: Path) -> None:
    _, made = await kept(tmp_path)

    assert await FileTokens(tmp_path).read(REQUEST) == made


async def test_it_is_kept_where_the_spec_says(tmp_path: Path) -> None:
    ref = {"name": "license", "key": "license_token"}
    moved = rotating(source={"token": {"secretKeyRef": ref, "saveTo": {"secretName": "live"}}})
    await FileTokens(tmp_path).create(moved, KEPT)

    assert names(tmp_path) == ["live.json"]


async def test_the_room_for_the_save_is_taken_before(tmp_path: Path) -> None:
    """A disk that fills up during the exchange takes the longest token all the same."""
    with small_disk(tmp_path / "disk") as disk:
        tokens, made = await kept(disk)
        await tokens.keep(REQUEST, made, dry_run=True)
        intended = await tokens.keep(REQUEST, replace(INTENDED, uid=made.uid, version=made.version))
        long = replace(NEXT, value="x" * 60_000, uid=intended.uid, version=intended.version)
        with full(disk):
            await tokens.save(REQUEST, long)
            found = await FileTokens(disk).read(REQUEST)

    assert found
    assert (found.value, found.family) == (long.value, NEXT.family)


@pytest.mark.parametrize("what", ["full", "read-only"])
async def test_a_disk_that_takes_nothing_is_found_out_by_the_rehearsal(tmp_path: Path, what: str) -> None:
    with small_disk(tmp_path / "disk") as disk:
        tokens, made = await kept(disk)
        with full(disk) if what == "full" else read_only(disk), pytest.raises(RefusedError) as refused:
            await tokens.keep(REQUEST, made, dry_run=True)
        found = await tokens.read(REQUEST)

    says = {"full": "No space left on device", "read-only": "Read-only file system"}[what]
    assert (refused.value.reason, refused.value.message) == (
        "WriteDenied",
        f"{file(disk)} cannot be written: {says}",
    )
    assert found == made


async def test_a_limit_of_files_is_found_out_by_the_rehearsal(tmp_path: Path) -> None:
    tokens, made = await kept(tmp_path)
    with no_longer_files(30_000), pytest.raises(RefusedError, match="File too large"):
        await tokens.keep(REQUEST, made, dry_run=True)

    assert await tokens.read(REQUEST) == made


def told(**changes: object) -> str:
    """A file with some of its fields changed."""
    whole = {"namespace": "billing", "token": "planted", "previous": "", "family": json.loads(KNOWN.encoded())}
    return json.dumps(whole | changes)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param('{"namespace": "billing", "token": "pla', id="cut off"),
        pytest.param("[]", id="a list"),
        pytest.param("[" * 100_000, id="nested deep"),
        pytest.param('{"namespace": "billing", "token": "planted", "previous": ""}', id="no lineage"),
        pytest.param(told(namespace=None), id="no namespace"),
        pytest.param(told(token=7), id="a token that is a number"),
    ],
)  # fmt: skip
async def test_what_is_not_ours_is_not_used_and_not_told(tmp_path: Path, content: str) -> None:
    file(tmp_path).write_text(content)

    with pytest.raises(RefusedError, match=r"license-keyturn\.json is not what Keyturn wrote") as refused:
        await FileTokens(tmp_path).read(REQUEST)
    assert refused.value.reason == "TargetConflict"
    assert "planted" not in refused.value.message


async def test_a_live_token_is_saved_over_what_is_broken(tmp_path: Path) -> None:
    tokens, made = await kept(tmp_path)
    file(tmp_path).write_text("broken")
    await tokens.save(REQUEST, replace(NEXT, uid=made.uid, version=made.version))
    found = await tokens.read(REQUEST)

    assert found
    assert found.value == NEXT.value


async def test_the_token_of_another_namespace_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    await kept(tmp_path)
    moved = request(namespace="else", exchanges=[REFRESH, ASSUME_ROLE])

    with pytest.raises(RefusedError, match="keeps the token of a request in namespace billing"):
        await FileTokens(tmp_path).read(moved)


async def test_without_a_folder_nothing_is_spent() -> None:
    with pytest.raises(RefusedError, match="--state-dir"):
        await FileTokens(None).read(REQUEST)


async def test_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    tokens, made = await kept(tmp_path)
    for name in ("..license-keyturn.next", "..license-keyturn.room"):
        (tmp_path / name).write_text("planted")
    (tmp_path / "..theirs").touch()
    tokens.tidy()

    assert names(tmp_path) == ["..theirs", "license-keyturn.json"]
    assert await tokens.read(REQUEST) == made


async def test_a_save_that_a_crash_came_into_is_finished(tmp_path: Path) -> None:
    tokens, _ = await kept(tmp_path)
    room = tmp_path / "..license-keyturn.room"
    room.write_bytes(told(token="after", family=json.loads(KNOWN.rotated("3").encoded())).encode() + bytes(9))
    tokens.tidy()
    found = await tokens.read(REQUEST)

    assert found
    assert (found.value, found.family, names(tmp_path)) == ("after", NEXT.family, ["license-keyturn.json"])


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(KNOWN, id="the token that is live"),
        pytest.param(KNOWN.rotated("3").rotated("4"), id="a token after the next"),
        pytest.param(KNOWN.with_initial_token("9"), id="another sign-in"),
        pytest.param(KNOWN.rotated(""), id="no token"),
    ],
)
async def test_what_is_no_answer_to_the_live_token_replaces_nothing(tmp_path: Path, family: TokenFamily) -> None:
    tokens, made = await kept(tmp_path)
    (tmp_path / "..license-keyturn.room").write_text(told(family=json.loads(family.encoded())))
    tokens.tidy()

    assert await tokens.read(REQUEST) == made


async def test_an_empty_folder_in_place_of_the_locked_one_sends_nothing(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    with locked(state, 0o700):
        tokens, made = await kept(state)
        state.rename(tmp_path / "away")
        state.mkdir()
        with pytest.raises(UnavailableError, match="is not the folder that it was at the start"):
            await tokens.read(REQUEST)
        # What was answered is saved where the next process looks for it.
        await tokens.save(REQUEST, replace(NEXT, uid=made.uid, version=made.version))

        assert names(state) == ["license-keyturn.json"]
