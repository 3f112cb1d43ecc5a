import os
from collections.abc import Callable
from pathlib import Path

import pytest

from keyturn.sidecar.regular_file import file_fingerprint, read_regular_file
from tests.support.irregular_files import IRREGULAR_KINDS, put_irregular_file

DESCRIPTORS = Path("/proc/self/fd")


def test_file_of_the_maximum_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")

    assert read_regular_file(tmp_path / "file", 7) == b"content"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("file", "larger than 6 bytes", id="too large"),
        pytest.param("directory", "not a regular file", id="a directory"),
        pytest.param("pipe", "not a regular file", id="a pipe does not block"),
        pytest.param("socket", "not a regular file", id="a socket"),
        pytest.param("link", "not a regular file", id="a link to a device"),
        pytest.param("sparse file", "larger than 6 bytes", id="a sparse file"),
        pytest.param("missing", "No such file", id="missing"),
    ],
)
def test_unreadable_file_is_refused_and_closed(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    for kind in (*IRREGULAR_KINDS, "directory", "sparse file"):
        put_irregular_file(tmp_path / kind, kind)
    before = len(list(DESCRIPTORS.iterdir()))
    with pytest.raises(OSError, match=reason):
        read_regular_file(tmp_path / name, 6)

    assert len(list(DESCRIPTORS.iterdir())) == before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda file: file.write_text("x"), id="written"),
        pytest.param(lambda file: file.unlink(), id="removed"),
        pytest.param(lambda file: file.chmod(0o400), id="mode changed"),
    ],
)
def test_fingerprint_changes_with_the_file(change: Callable[[Path], None], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("y")
    os.utime(file, (0, 0))
    before = file_fingerprint(file)

    assert file_fingerprint(file) == before
    change(file)
    assert file_fingerprint(file) != before
