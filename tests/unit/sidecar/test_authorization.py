import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keyturn.sidecar.authorization import AuthorizationError, read_or_create_token


@pytest.mark.parametrize("mode", [0o440, 0o444])
def test_file_is_created_once_with_its_mode_and_without_newline(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "token"
    umask = os.umask(0o077)
    try:
        token = read_or_create_token(path, mode)
    finally:
        os.umask(umask)

    assert (path.read_text(), len(token)) == (token, 43)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]
    assert read_or_create_token(path) == token


def test_created_tokens_differ(tmp_path: Path) -> None:
    assert len({read_or_create_token(tmp_path / str(number)) for number in range(20)}) == 20


def test_concurrent_creators_get_the_same_token(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        tokens = set(threads.map(read_or_create_token, [tmp_path / "token"] * 200))

    assert tokens == {(tmp_path / "token").read_text()}
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]


def test_file_mounted_by_the_kubelet_is_read(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "token").write_text("from-a-secret")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "token").symlink_to("..data/token")

    assert read_or_create_token(tmp_path / "token") == "from-a-secret"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"planted\n", id="a trailing newline"),
        pytest.param(b"planted planted", id="a space"),
        pytest.param("plantéd".encode(), id="not ASCII"),
    ],
)
def test_token_that_is_invalid_in_a_header_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(AuthorizationError, match="must contain only visible ASCII characters") as caught:
        read_or_create_token(path)

    assert "planted" not in str(caught.value)
    assert path.read_bytes() == content


def test_dangling_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AuthorizationError, match=r"cannot create the authorization file .*: No such file"):
        read_or_create_token(tmp_path / "token")

    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["token"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("directory", "cannot read .*directory: not a regular file", id="a directory"),
        pytest.param("pipe", "cannot read .*pipe: not a regular file", id="a pipe does not block"),
        pytest.param("long", "cannot read .*long: larger than 4096 bytes", id="too long"),
        pytest.param("not/there", "cannot create .*there: No such file or directory", id="no directory"),
    ],
)
def test_unusable_file_is_reported_in_one_line(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "long").write_text("planted" * 1000)
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(AuthorizationError, match=message):
        read_or_create_token(tmp_path / name)
