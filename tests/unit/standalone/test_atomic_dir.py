import os
from pathlib import Path

import pytest

from keyturn.core.errors import RefusedError
from keyturn.standalone.atomic_dir import AtomicDir
from keyturn.standalone.atomic_files import locked_directory
from tests.support.disk import limited_file_size
from tests.support.irregular_files import IRREGULAR_KINDS, put_irregular_file
from tests.support.mounts import names, visible_files

ONE = {"config": "one", "credentials.json": "1", "..issuance": "m1"}
TWO = {"config": "two", "token": "2", "..issuance": "m2"}


def versions(path: Path) -> list[str]:
    return [name for name in names(path) if name.startswith("..keyturn-")]


def test_layout_matches_a_kubelet_mount(tmp_path: Path) -> None:
    AtomicDir(tmp_path).write(ONE)
    [version] = versions(tmp_path)

    assert str((tmp_path / "..data").readlink()) == version
    assert {name: str((tmp_path / name).readlink()) for name in ("config", "credentials.json")} == {
        "config": "..data/config",
        "credentials.json": "..data/credentials.json",
    }
    assert names(tmp_path) == sorted([version, "..data", "config", "credentials.json"])
    assert names(tmp_path / version) == sorted(ONE)


def test_files_are_readable_by_owner_and_group(tmp_path: Path) -> None:
    before = os.umask(0o077)
    AtomicDir(tmp_path).write(ONE)
    os.umask(before)

    assert (tmp_path / "..data").resolve().stat().st_mode & 0o777 == 0o750
    assert {(tmp_path / "..data" / name).stat().st_mode & 0o777 for name in ONE} == {0o440}


def test_new_version_replaces_the_previous_one(tmp_path: Path) -> None:
    directory = AtomicDir(tmp_path)
    directory.write(ONE)
    directory.write(TWO)

    assert directory.read() == TWO
    assert visible_files(tmp_path) == {"config": "two", "token": "2"}
    assert len(versions(tmp_path)) == 1


def test_empty_directory_is_read_as_none(tmp_path: Path) -> None:
    assert AtomicDir(tmp_path).read() is None


@pytest.mark.parametrize("damage", ["removed", "replaced"])
def test_broken_link_is_repaired_when_read(tmp_path: Path, damage: str) -> None:
    directory = AtomicDir(tmp_path)
    directory.write(ONE)
    (tmp_path / "config").unlink()
    if damage == "replaced":
        (tmp_path / "config").write_text("foreign")

    assert directory.has_changed()
    assert directory.read() == ONE
    assert visible_files(tmp_path)["config"] == "one"
    assert not directory.has_changed()


def test_edited_file_is_read_unchanged(tmp_path: Path) -> None:
    directory = AtomicDir(tmp_path)
    directory.write(ONE)
    assert not directory.has_changed()
    (tmp_path / "..data" / "config").chmod(0o600)
    (tmp_path / "config").write_bytes(b"\xff")

    assert directory.has_changed()
    assert directory.read() == ONE | {"config": "\ufffd"}


@pytest.mark.parametrize("kind", [*IRREGULAR_KINDS, "directory", "sparse file"])
@pytest.mark.parametrize("name", ["config", "..issuance"])
def test_irregular_file_is_read_as_empty(kind: str, name: str, tmp_path: Path) -> None:
    directory = AtomicDir(tmp_path)
    directory.write(ONE)
    (tmp_path / "..data" / name).unlink()
    put_irregular_file(tmp_path / "..data" / name, kind)

    assert directory.has_changed()
    assert directory.read() == ONE | {name: ""}


def test_version_with_too_many_files_is_read_in_part(tmp_path: Path) -> None:
    directory = AtomicDir(tmp_path)
    directory.write(ONE)
    for number in range(10_001):
        (tmp_path / "..data" / str(number)).touch()

    assert len(directory.read() or ()) == 10_000


def test_files_of_a_version_are_read_up_to_two_megabytes(tmp_path: Path) -> None:
    directory = AtomicDir(tmp_path)
    directory.write(ONE)
    for number in range(5):
        (tmp_path / "..data" / str(number)).write_bytes(bytes(600_000))

    assert sum(map(len, (directory.read() or {}).values())) < 2 * 1024 * 1024


@pytest.mark.parametrize("kind", IRREGULAR_KINDS)
def test_dry_run_replaces_an_irregular_file(kind: str, tmp_path: Path) -> None:
    put_irregular_file(tmp_path / "..dry-run", kind)
    AtomicDir(tmp_path).dry_run(["config"])

    assert names(tmp_path) == []


def test_other_files_are_kept(tmp_path: Path) -> None:
    (tmp_path / "foreign").write_text("foreign")
    directory = AtomicDir(tmp_path)
    directory.write(ONE)
    directory.write(TWO)

    assert visible_files(tmp_path) == {"config": "two", "token": "2", "foreign": "foreign"}


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_name_of_a_foreign_file_is_refused(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "config"
    if kind == "link":
        place.symlink_to("elsewhere")
    else:
        (place.touch if kind == "file" else place.mkdir)()
    directory = AtomicDir(tmp_path)

    with pytest.raises(RefusedError, match="config was not created by Keyturn") as error:
        directory.dry_run(ONE)
    with pytest.raises(RefusedError, match="config was not created by Keyturn"):
        directory.write(ONE)
    assert (error.value.reason, names(tmp_path)) == ("TargetConflict", ["config"])


def test_foreign_data_entry_is_refused(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()

    for attempt in (AtomicDir(tmp_path).read, AtomicDir(tmp_path).clean_up):
        with pytest.raises(RefusedError, match="is not a link created by Keyturn"):
            attempt()


def test_dry_run_leaves_no_files(tmp_path: Path) -> None:
    AtomicDir(tmp_path).dry_run(ONE)

    assert names(tmp_path) == []


def test_failed_write_keeps_the_previous_version(tmp_path: Path) -> None:
    directory = AtomicDir(tmp_path)
    directory.write(ONE)
    before = names(tmp_path)
    with limited_file_size(100):
        with pytest.raises(RefusedError, match="File too large") as error:
            directory.dry_run(ONE)
        with pytest.raises(RefusedError, match="File too large"):
            directory.write(TWO | {"token": "x" * 200})

    assert error.value.reason == "WriteDenied"
    assert (directory.read(), names(tmp_path)) == (ONE, before)


def test_clean_up_removes_only_files_of_keyturn(tmp_path: Path) -> None:
    directory = AtomicDir(tmp_path)
    with locked_directory(tmp_path, 0o750):
        directory.write(ONE)
        kept = sorted([*names(tmp_path), "..foreign"])
        (tmp_path / "..keyturn-old").mkdir()
        (tmp_path / "..keyturn-old" / "config").write_text("old")
        for name in ("..data_tmp", "..link"):
            (tmp_path / name).symlink_to("nowhere")
        (tmp_path / "..dry-run").touch()
        (tmp_path / "..foreign").touch()
        directory.clean_up()

    assert names(tmp_path) == kept
    assert directory.read() == ONE
