import os
from pathlib import Path

import pytest

from keyturn.sidecar.plain_file import read_plain

OPEN = Path("/proc/self/fd")


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")

    assert read_plain(tmp_path / "file", 7) == b"content"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("file", "it has more than 6 bytes", id="too large"),
        pytest.param("folder", "Is a directory", id="a folder"),
        pytest.param("pipe", "it is not a regular file", id="a pipe: nobody waits for it"),
        pytest.param("nothing", "No such file", id="nothing"),
    ],
)
def test_what_is_no_such_file_keeps_nothing_open(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = len(list(OPEN.iterdir()))
    with pytest.raises(OSError, match=says):
        read_plain(tmp_path / name, 6)

    assert len(list(OPEN.iterdir())) == before
