import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keyturn.core.errors import RefusedError
from keyturn.standalone.atomic_files import (
    StartupError,
    locked_directory,
    replace_file,
    reporting_write_errors,
    write_in_place,
)
from tests.support.disk import limited_file_size
from tests.support.irregular_files import IRREGULAR_KINDS, put_irregular_file

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
