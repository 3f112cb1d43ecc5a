import os
import subprocess
import sys
from pathlib import Path

import pytest

from keyturn.core.errors import RefusedError
from keyturn.standalone.atomic_files import UnusableError, fill, locked, put, writing
from tests.support.disk import no_longer_files

HOLDS = "import sys; from pathlib import Path; from keyturn.standalone.atomic_files import locked\n"
HOLDS += "with locked(Path(sys.argv[1]), 0o700): print('held', flush=True); sys.stdin.read()"


def test_a_file_is_replaced_whole_and_for_its_owner_only(tmp_path: Path) -> None:
    path, aside = tmp_path / "token", tmp_path / "..next"
    path.write_text("before, and much longer than what comes after")
    put(path, b"after", aside)

    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"after", 0o600)
    assert not aside.exists()


def test_room_that_was_taken_is_used(tmp_path: Path) -> None:
    room = tmp_path / "room"
    fill(room, bytes(1000), 0o600)
    number = room.stat().st_ino
    with no_longer_files(100):
        put(tmp_path / "token", b"after", room)

    assert (tmp_path / "token").stat().st_ino == number
    assert (tmp_path / "token").read_bytes() == b"after"


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"before")
    says = "cannot be written: File too large"
    with no_longer_files(100), pytest.raises(RefusedError, match=says) as refused, writing(path):
        put(path, bytes(200), tmp_path / "..next")

    assert (refused.value.reason, path.read_bytes()) == ("WriteDenied", b"before")


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"theirs")
    (tmp_path / "..next").symlink_to(theirs)

    with pytest.raises(OSError, match="symbolic links"):
        put(tmp_path / "token", b"after", tmp_path / "..next")
    assert theirs.read_bytes() == b"theirs"


def test_a_folder_has_one_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "state")]
    pipe = subprocess.PIPE
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=variables) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        says = f"another process works in {tmp_path}/state"
        with pytest.raises(UnusableError, match=says), locked(tmp_path / "state", 0o700):
            pass
        other.kill()

    with locked(tmp_path / "state", 0o700):
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    says = "file/state cannot be used: Not a directory"
    with pytest.raises(UnusableError, match=says), locked(tmp_path / "file" / "state", 0o700):
        pass
