import os
from pathlib import Path

import pytest

from keyturn.core.errors import RefusedError
from keyturn.standalone.atomic_dir import Folder
from keyturn.standalone.atomic_files import locked
from tests.support.disk import no_longer_files
from tests.support.mounts import names, shown

ONE = {"config": "one", "credentials.json": "1", "..marks": "m1"}
TWO = {"config": "two", "token": "2", "..marks": "m2"}


def versions(path: Path) -> list[str]:
    return [name for name in names(path) if name.startswith("..keyturn-")]


def test_it_is_laid_out_as_the_kubelet_does(tmp_path: Path) -> None:
    Folder(tmp_path).write(ONE)
    [version] = versions(tmp_path)

    assert str((tmp_path / "..data").readlink()) == version
    assert {name: str((tmp_path / name).readlink()) for name in ("config", "credentials.json")} == {
        "config": "..data/config",
        "credentials.json": "..data/credentials.json",
    }
    assert names(tmp_path) == sorted([version, "..data", "config", "credentials.json"])
    assert names(tmp_path / version) == sorted(ONE)


def test_files_are_for_owner_and_group(tmp_path: Path) -> None:
    before = os.umask(0o077)
    Folder(tmp_path).write(ONE)
    os.umask(before)

    assert (tmp_path / "..data").resolve().stat().st_mode & 0o777 == 0o750
    assert {(tmp_path / "..data" / name).stat().st_mode & 0o777 for name in ONE} == {0o440}


def test_another_version_replaces_the_names_and_removes_the_one_before(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write(ONE)
    folder.write(TWO)

    assert folder.read() == TWO
    assert shown(tmp_path) == {"config": "two", "token": "2"}
    assert len(versions(tmp_path)) == 1


def test_where_nothing_was_written_nothing_is_read(tmp_path: Path) -> None:
    assert Folder(tmp_path).read() is None


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_name_that_somebody_broke_shows_what_was_written_again(tmp_path: Path, how: str) -> None:
    folder = Folder(tmp_path)
    folder.write(ONE)
    (tmp_path / "config").unlink()
    if how == "replaced":
        (tmp_path / "config").write_text("theirs")

    assert folder.has_changed()
    assert folder.read() == ONE
    assert shown(tmp_path)["config"] == "one"
    assert not folder.has_changed()


def test_what_was_edited_is_read_as_it_is(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write(ONE)
    assert not folder.has_changed()
    (tmp_path / "..data" / "config").chmod(0o600)
    (tmp_path / "config").write_bytes(b"\xff")

    assert folder.has_changed()
    assert folder.read() == ONE | {"config": "\ufffd"}


def test_files_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    folder = Folder(tmp_path)
    folder.write(ONE)
    folder.write(TWO)

    assert shown(tmp_path) == {"config": "two", "token": "2", "theirs": "theirs"}


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_name_that_somebody_else_has_is_not_taken(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "config"
    if kind == "link":
        place.symlink_to("elsewhere")
    else:
        (place.touch if kind == "file" else place.mkdir)()
    folder = Folder(tmp_path)

    with pytest.raises(RefusedError, match="config was not made by Keyturn") as dry_run_done:
        folder.dry_run(ONE)
    with pytest.raises(RefusedError, match="config was not made by Keyturn"):
        folder.write(ONE)
    assert (dry_run_done.value.reason, names(tmp_path)) == ("TargetConflict", ["config"])


def test_data_that_is_no_link_is_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()

    for attempt in (Folder(tmp_path).read, Folder(tmp_path).tidy):
        with pytest.raises(RefusedError, match="is not a link of Keyturn's"):
            attempt()


def test_a_rehearsal_leaves_nothing(tmp_path: Path) -> None:
    Folder(tmp_path).dry_run(ONE)

    assert names(tmp_path) == []


def test_what_cannot_be_written_leaves_what_was_shown(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write(ONE)
    before = names(tmp_path)
    with no_longer_files(100):
        with pytest.raises(RefusedError, match="File too large") as refused:
            folder.dry_run(ONE)
        with pytest.raises(RefusedError, match="File too large"):
            folder.write(TWO | {"token": "x" * 200})

    assert refused.value.reason == "WriteDenied"
    assert (folder.read(), names(tmp_path)) == (ONE, before)


def test_what_a_crash_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with locked(tmp_path, 0o750):
        folder.write(ONE)
        kept = sorted([*names(tmp_path), "..theirs"])
        (tmp_path / "..keyturn-old").mkdir()
        (tmp_path / "..keyturn-old" / "config").write_text("old")
        for name in ("..data_tmp", "..link"):
            (tmp_path / name).symlink_to("nowhere")
        (tmp_path / "..rehearsal").touch()
        (tmp_path / "..theirs").touch()
        folder.tidy()

    assert names(tmp_path) == kept
    assert folder.read() == ONE
