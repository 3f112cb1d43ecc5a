import json
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from keyturn.core.errors import RefusedError, StorageGoneError, UnavailableError
from keyturn.core.token_family import Intent, StoredToken, TokenFamily
from keyturn.standalone.atomic_files import LOCK, locked_directory
from keyturn.standalone.token_files import TokenFiles
from tests.support.dependencies import ASSUME_ROLE, NOW, REFRESH, request, rotating
from tests.support.disk import full, limited_file_size, read_only, small_disk
from tests.support.irregular_files import IRREGULAR_KINDS, put_irregular_file
from tests.support.mounts import names

REQUEST = rotating()
FAMILY = TokenFamily(source_id="license/license_token", initial_tokens=("1",), live="2", consumed=("1",))
INTENT = Intent(holder="pod-1", consumes="2", start=NOW, give_up_seconds=30)
TOKEN = StoredToken("live", FAMILY, previous="before")
INTENDED = replace(TOKEN, family=FAMILY.with_intent(INTENT))
NEXT = replace(TOKEN, value="after", previous="live", family=FAMILY.rotated("3"))
PLANTED_TOKEN = replace(TOKEN, value="planted-token", previous="planted-before")


async def stored(directory: Path) -> tuple[TokenFiles, StoredToken]:
    tokens = TokenFiles(directory)
    return tokens, await tokens.create(REQUEST, PLANTED_TOKEN)


def file(directory: Path) -> Path:
    return directory / "license-keyturn.json"


async def test_files_have_mode_0600(tmp_path: Path) -> None:
    tokens, created = await stored(tmp_path)
    await tokens.update(REQUEST, created, dry_run=True)

    assert {(tmp_path / name).stat().st_mode & 0o777 for name in names(tmp_path)} == {0o600}


def test_lack_of_file_descriptors_is_reported(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(RefusedError, match="Too many open files"):
            TokenFiles(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_new_process_reads_the_token(tmp_path: Path) -> None:
    _, created = await stored(tmp_path)

    assert await TokenFiles(tmp_path).read(REQUEST) == created


async def test_file_has_the_name_of_the_token_secret(tmp_path: Path) -> None:
    ref = {"name": "license", "key": "license_token"}
    moved = rotating(source={"token": {"secretKeyRef": ref, "saveTo": {"secretName": "live"}}})
    await TokenFiles(tmp_path).create(moved, TOKEN)

    assert names(tmp_path) == ["live.json"]


async def test_save_uses_the_reserved_space(tmp_path: Path) -> None:
    """A disk that fills up during the exchange can still store the longest token."""
    with small_disk(tmp_path / "disk") as disk:
        tokens, created = await stored(disk)
        await tokens.update(REQUEST, created, dry_run=True)
        intended = await tokens.update(REQUEST, replace(INTENDED, uid=created.uid, version=created.version))
        long = replace(NEXT, value="x" * 60_000, uid=intended.uid, version=intended.version)
        with full(disk):
            await tokens.prepare_save(REQUEST, long)()
            loaded = await TokenFiles(disk).read(REQUEST)

    assert loaded
    assert (loaded.value, loaded.family) == (long.value, NEXT.family)


@pytest.mark.parametrize("disk_state", ["full", "read-only"])
async def test_dry_run_fails_on_a_full_or_read_only_disk(tmp_path: Path, disk_state: str) -> None:
    with small_disk(tmp_path / "disk") as disk:
        tokens, created = await stored(disk)
        with full(disk) if disk_state == "full" else read_only(disk), pytest.raises(RefusedError) as error:
            await tokens.update(REQUEST, created, dry_run=True)
        loaded = await tokens.read(REQUEST)

    message = {"full": "No space left on device", "read-only": "Read-only file system"}[disk_state]
    assert (error.value.reason, error.value.message) == (
        "WriteDenied",
        f"{file(disk)} cannot be written: {message}",
    )
    assert loaded == created


async def test_dry_run_fails_at_a_file_size_limit(tmp_path: Path) -> None:
    tokens, created = await stored(tmp_path)
    with limited_file_size(30_000), pytest.raises(RefusedError, match="File too large"):
        await tokens.update(REQUEST, created, dry_run=True)

    assert await tokens.read(REQUEST) == created


def content_with(**changes: object) -> str:
    """Return the content of a valid file with these fields changed."""
    whole = {"namespace": "billing", "token": "planted", "previous": "", "family": json.loads(FAMILY.encoded())}
    return json.dumps(whole | changes)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param('{"namespace": "billing", "token": "pla', id="truncated"),
        pytest.param("[]", id="a list"),
        pytest.param("[" * 100_000, id="nested too deeply"),
        pytest.param('{"namespace": "billing", "token": "planted", "previous": ""}', id="no family"),
        pytest.param(content_with(namespace=None), id="no namespace"),
        pytest.param(content_with(token=7), id="a number as token"),
    ],
)  # fmt: skip
async def test_invalid_file_is_refused_without_quoting_it(tmp_path: Path, content: str) -> None:
    file(tmp_path).write_text(content)

    with pytest.raises(RefusedError, match=r"license-keyturn\.json was not written by Keyturn") as error:
        await TokenFiles(tmp_path).read(REQUEST)
    assert error.value.reason == "TargetConflict"
    assert "planted" not in error.value.message


async def test_save_overwrites_a_corrupt_file(tmp_path: Path) -> None:
    tokens, created = await stored(tmp_path)
    file(tmp_path).write_text("broken")
    await tokens.prepare_save(REQUEST, replace(NEXT, uid=created.uid, version=created.version))()
    loaded = await tokens.read(REQUEST)

    assert loaded
    assert loaded.value == NEXT.value


async def test_save_ends_if_the_directory_is_gone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with locked_directory(state, 0o700):
        tokens, created = await stored(state)
        shutil.rmtree(state)

        with pytest.raises(StorageGoneError, match="state no longer exists"):
            await tokens.prepare_save(REQUEST, replace(NEXT, uid=created.uid, version=created.version))()


async def test_save_follows_a_directory_that_was_moved(tmp_path: Path) -> None:
    state, moved = tmp_path / "state", tmp_path / "moved"
    with locked_directory(state, 0o700):
        tokens, created = await stored(state)
        state.rename(moved)
        await tokens.prepare_save(REQUEST, replace(NEXT, uid=created.uid, version=created.version))()

        loaded = await TokenFiles(moved).read(REQUEST)
    assert loaded
    assert loaded.value == NEXT.value


async def test_save_can_be_repeated_after_the_disk_was_read_only(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        tokens, created = await stored(disk)
        save = tokens.prepare_save(REQUEST, replace(NEXT, uid=created.uid, version=created.version))
        with read_only(disk), pytest.raises(RefusedError, match="Read-only file system") as error:
            await save()
        await save()
        loaded = await tokens.read(REQUEST)

    assert not isinstance(error.value, StorageGoneError)
    assert loaded
    assert loaded.value == NEXT.value


@pytest.mark.parametrize("kind", [*IRREGULAR_KINDS, "directory", "sparse file"])
async def test_irregular_token_file_is_refused(kind: str, tmp_path: Path) -> None:
    tokens, _ = await stored(tmp_path)
    file(tmp_path).unlink()
    put_irregular_file(file(tmp_path), kind)

    with pytest.raises(
        RefusedError, match=r"license-keyturn.json cannot be read: (not a regular file|larger|Too many levels)"
    ) as error:
        await tokens.read(REQUEST)
    assert error.value.reason == "WriteDenied"


@pytest.mark.parametrize("kind", [*IRREGULAR_KINDS, "sparse file"])
async def test_save_replaces_irregular_files(kind: str, tmp_path: Path) -> None:
    tokens, created = await stored(tmp_path)
    file(tmp_path).unlink()
    for path in (file(tmp_path), tmp_path / "..license-keyturn.reserved"):
        put_irregular_file(path, kind)
    await tokens.prepare_save(REQUEST, replace(NEXT, uid=created.uid, version=created.version))()

    assert (await tokens.read(REQUEST) or created).value == NEXT.value


@pytest.mark.parametrize("kind", [*IRREGULAR_KINDS, "sparse file"])
async def test_clean_up_removes_irregular_leftovers(kind: str, tmp_path: Path) -> None:
    tokens, created = await stored(tmp_path)
    for suffix in ("reserved", "tmp"):
        put_irregular_file(tmp_path / f"..license-keyturn.{suffix}", kind)
    TokenFiles(tmp_path).clean_up()

    assert names(tmp_path) == ["license-keyturn.json"]
    assert await tokens.read(REQUEST) == created


async def test_token_of_another_namespace_is_refused(tmp_path: Path) -> None:
    await stored(tmp_path)
    moved = request(namespace="else", exchanges=[REFRESH, ASSUME_ROLE])

    with pytest.raises(RefusedError, match="contains the token of a request in namespace billing"):
        await TokenFiles(tmp_path).read(moved)


async def test_state_directory_is_required() -> None:
    with pytest.raises(RefusedError, match="--state-dir"):
        await TokenFiles(None).read(REQUEST)


async def test_clean_up_removes_leftovers_of_a_crash(tmp_path: Path) -> None:
    tokens, created = await stored(tmp_path)
    for name in ("..license-keyturn.tmp", "..license-keyturn.reserved"):
        (tmp_path / name).write_text("planted")
    (tmp_path / "..foreign").touch()
    tokens.clean_up()

    assert names(tmp_path) == ["..foreign", "license-keyturn.json"]
    assert await tokens.read(REQUEST) == created


async def test_clean_up_finishes_an_interrupted_save(tmp_path: Path) -> None:
    tokens, _ = await stored(tmp_path)
    reserved = tmp_path / "..license-keyturn.reserved"
    family = FAMILY.rotated("3", NOW)
    reserved.write_bytes(content_with(token="after", family=json.loads(family.encoded())).encode() + bytes(9))
    tokens.clean_up()
    loaded = await tokens.read(REQUEST)

    assert loaded
    assert (loaded.value, loaded.family, names(tmp_path)) == ("after", family, ["license-keyturn.json"])


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(FAMILY, id="the live token"),
        pytest.param(FAMILY.rotated("3").rotated("4"), id="a token after the next"),
        pytest.param(FAMILY.with_initial_token("9"), id="another sign-in"),
        pytest.param(FAMILY.rotated(""), id="no token"),
    ],
)
async def test_clean_up_ignores_a_save_of_another_token(tmp_path: Path, family: TokenFamily) -> None:
    tokens, created = await stored(tmp_path)
    (tmp_path / "..license-keyturn.reserved").write_text(content_with(family=json.loads(family.encoded())))
    tokens.clean_up()

    assert await tokens.read(REQUEST) == created


async def test_replaced_state_directory_is_refused(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    with locked_directory(state, 0o700):
        tokens, created = await stored(state)
        state.rename(tmp_path / "away")
        state.mkdir()
        with pytest.raises(UnavailableError, match="is no longer the directory locked at startup"):
            await tokens.read(REQUEST)
        # A token that was received is saved wherever the next process may read it.
        await tokens.prepare_save(REQUEST, replace(NEXT, uid=created.uid, version=created.version))()

        assert names(state) == ["license-keyturn.json"]
        state.rename(tmp_path / "other")
        (tmp_path / "away").rename(state)
        loaded = await tokens.read(REQUEST)
        assert loaded
        assert loaded.value == NEXT.value


async def test_removed_state_directory_cannot_be_read_later(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with locked_directory(state, 0o700):
        tokens, _ = await stored(state)
        shutil.rmtree(state)
        with pytest.raises(StorageGoneError, match="is no longer the directory locked at startup"):
            await tokens.read(REQUEST)


async def test_only_another_lock_file_stops_the_use_of_a_directory(tmp_path: Path) -> None:
    with locked_directory(tmp_path, 0o700):
        tokens, created = await stored(tmp_path)
        (tmp_path / LOCK).rename(tmp_path / "..old-lock")
        assert await tokens.read(REQUEST) == created
        (tmp_path / LOCK).touch()
        with pytest.raises(UnavailableError, match="is no longer the directory locked at startup"):
            await tokens.read(REQUEST)


async def test_another_volume_is_not_taken_for_the_state_directory(tmp_path: Path) -> None:
    """The first file of a new volume always has the same inode number."""
    state = tmp_path / "state"
    with small_disk(state), locked_directory(state, 0o700):
        tokens, _ = await stored(state)
        before = (state / LOCK).stat().st_ino
        with small_disk(state):
            (state / LOCK).touch()
            assert (state / LOCK).stat().st_ino == before
            with pytest.raises(UnavailableError, match="is no longer the directory locked at startup"):
                await tokens.read(REQUEST)


async def test_save_uses_the_directory_at_the_path_if_its_own_disk_is_full(tmp_path: Path) -> None:
    """A person has mounted a larger disk, and restarts the process."""
    state = tmp_path / "state"
    state.mkdir()
    with small_disk(state), locked_directory(state, 0o700):
        tokens, created = await stored(state)
        save = tokens.prepare_save(REQUEST, replace(NEXT, uid=created.uid, version=created.version))
        content = file(state).read_bytes()
        with full(state), small_disk(state):
            file(state).write_bytes(content)
            with pytest.raises(RefusedError, match="No space left on device"):
                await save()
            loaded = await TokenFiles(state).read(REQUEST)

    assert loaded
    assert loaded.value == NEXT.value
