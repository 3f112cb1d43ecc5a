import errno
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from keyturn.core.errors import RefusedError
from keyturn.standalone.atomic_files import (
    LOCK,
    AtomicDir,
    StartupError,
    locked_directory,
    replace_file,
    reporting_write_errors,
    write_in_place,
)
from tests.support.disk import limited_file_size
from tests.support.irregular_files import IRREGULAR_KINDS, put_irregular_file
from tests.support.mounts import names, visible_files

ONE = {"config": "one", "credentials.json": "1", "..issuance": "m1"}
TWO = {"config": "two", "token": "2", "..issuance": "m2"}
LOCKER = "import sys; from pathlib import Path; from keyturn.standalone.atomic_files import locked_directory\n"
LOCKER += "with locked_directory(Path(sys.argv[1]), 0o700): print('locked', flush=True); sys.stdin.read()"


def test_file_is_replaced_with_mode_0600(tmp_path: Path) -> None:
    path, temporary = tmp_path / "token", tmp_path / "..next"
    path.write_text("before, and much longer than what comes after")
    replace_file(path, b"after", temporary)

    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"after", 0o600)
    assert not temporary.exists()


def test_reserved_file_is_overwritten_in_place(tmp_path: Path) -> None:
    reserved = tmp_path / "reserved"
    write_in_place(reserved, bytes(1000), 0o600)
    inode = reserved.stat().st_ino
    with limited_file_size(100):
        replace_file(tmp_path / "token", b"after", reserved)

    assert (tmp_path / "token").stat().st_ino == inode
    assert (tmp_path / "token").read_bytes() == b"after"


def test_failed_write_keeps_the_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"before")
    message = "cannot be written: File too large"
    with limited_file_size(100), pytest.raises(RefusedError, match=message) as error, reporting_write_errors(path):
        replace_file(path, bytes(200), tmp_path / "..next")

    assert (error.value.reason, path.read_bytes()) == ("WriteDenied", b"before")


def test_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"foreign")
    (tmp_path / "..next").symlink_to(foreign)
    replace_file(tmp_path / "token", b"after", tmp_path / "..next")

    assert (tmp_path / "token").read_bytes() == b"after"
    assert foreign.read_bytes() == b"foreign"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may create a file of another user")
def test_file_of_another_user_receives_no_content() -> None:
    with tempfile.TemporaryDirectory() as directory:
        planted = Path(directory) / "..next"
        planted.touch()
        planted.chmod(0o666)
        Path(directory).chmod(0o777)
        os.seteuid(65532)
        try:
            with pytest.raises(PermissionError):
                write_in_place(planted, b"token", 0o600)
        finally:
            os.seteuid(0)

        assert planted.read_bytes() == b""


@pytest.mark.parametrize("kind", IRREGULAR_KINDS)
def test_irregular_file_is_replaced_without_blocking(kind: str, tmp_path: Path) -> None:
    put_irregular_file(tmp_path / "..next", kind)
    replace_file(tmp_path / "token", b"after", tmp_path / "..next")

    assert (tmp_path / "token").read_bytes() == b"after"


def test_directory_is_locked_for_one_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOCKER, str(tmp_path / "state")]
    pipe = subprocess.PIPE
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=variables) as other:
        assert other.stdout
        assert other.stdout.readline() == "locked\n"
        message = f"another process uses {tmp_path}/state"
        with pytest.raises(StartupError, match=message), locked_directory(tmp_path / "state", 0o700):
            pass
        other.kill()

    with locked_directory(tmp_path / "state", 0o700):
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_directory_stays_locked_if_the_lock_file_is_removed(tmp_path: Path) -> None:
    with locked_directory(tmp_path, 0o700):
        (tmp_path / LOCK).unlink()
        with pytest.raises(StartupError, match="another process uses"), locked_directory(tmp_path, 0o700):
            pass
    with locked_directory(tmp_path, 0o700):
        pass


def test_file_system_that_locks_no_directories_is_used(tmp_path: Path) -> None:
    def flock(file: int, _operation: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    with locked_directory(tmp_path, 0o700, flock):
        pass


def test_directory_without_lock_support_is_refused(tmp_path: Path) -> None:
    def flock(_file: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    message = f"{tmp_path} cannot be locked: No locks available"
    with pytest.raises(StartupError, match=message), locked_directory(tmp_path, 0o700, flock):
        pass


def test_blocking_error_of_the_body_is_not_a_lock_conflict(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), locked_directory(tmp_path, 0o700):
        raise BlockingIOError


def test_directory_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    message = "file/state cannot be used: Not a directory"
    with pytest.raises(StartupError, match=message), locked_directory(tmp_path / "file" / "state", 0o700):
        pass


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

    sizes = [len(text) for text in (directory.read() or {}).values()]

    assert (sizes.count(600_000), sizes.count(0)) == (3, 2)


@pytest.mark.parametrize("kind", [*IRREGULAR_KINDS, "directory", "sparse file"])
@pytest.mark.parametrize("name", ["..keyturn-x", "..data_tmp", "..link", "..dry-run"])
def test_file_of_any_kind_and_name_stops_no_write(kind: str, name: str, tmp_path: Path) -> None:
    directory = AtomicDir(tmp_path)
    for files in (ONE, TWO):
        if not os.path.lexists(tmp_path / name):
            put_irregular_file(tmp_path / name, kind)
        directory.dry_run(files)
        directory.write(files)

    assert directory.read() == TWO
    # Only the prefix is Keyturn's own.
    assert os.path.lexists(tmp_path / name) == (name != "..keyturn-x")


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


def test_data_link_to_the_parent_directory_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    (tmp_path / "notes").touch()
    (output / "notes").write_text("of another program")
    (output / "..data").symlink_to("..")

    with pytest.raises(RefusedError, match="is not a link created by Keyturn"):
        AtomicDir(output).read()
    assert (output / "notes").read_text() == "of another program"


def test_deeply_nested_leftover_stops_no_write(tmp_path: Path) -> None:
    place = os.open(tmp_path, os.O_RDONLY)
    for name in ("..keyturn-deep", *("d" * 1500)):
        os.mkdir(name, dir_fd=place)
        outer, place = place, os.open(name, os.O_RDONLY, dir_fd=place)
        os.close(outer)
    os.close(place)
    directory = AtomicDir(tmp_path)
    directory.clean_up()
    directory.write(ONE)

    assert directory.read() == ONE
    subprocess.run(["rm", "-rf", str(tmp_path / "..keyturn-deep")], check=True)


def test_dry_run_leaves_no_files(tmp_path: Path) -> None:
    AtomicDir(tmp_path).dry_run(ONE)

    assert names(tmp_path) == []


def test_dry_run_fails_without_symbolic_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a volume of SMB or FAT, where each write would leave a version behind."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "symlink", refuse)
    with pytest.raises(RefusedError, match="cannot be written: Operation not permitted"):
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
        (tmp_path / "..keyturn-link").symlink_to("nowhere")
        (tmp_path / "..keyturn-file").touch()
        (tmp_path / "..foreign").touch()
        directory.clean_up()

    assert names(tmp_path) == kept
    assert directory.read() == ONE


@pytest.mark.parametrize("call", ["readlink", "stat", "scandir"])
def test_failing_disk_is_reported_as_such(tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    output = AtomicDir(tmp_path)
    output.write(ONE)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, call, fail)
    for action in (output.read, lambda: output.write(TWO), output.clean_up):
        with pytest.raises(RefusedError, match="cannot be written: Input/output error") as error:
            action()
        assert error.value.reason == "WriteDenied"
