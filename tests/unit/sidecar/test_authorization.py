import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keyturn.sidecar.authorization import AuthorizationError, authorization


def test_it_is_made_once_for_owner_and_group_without_a_newline(tmp_path: Path) -> None:
    path = tmp_path / "token"
    before = os.umask(0o077)
    try:
        made = authorization(path)
    finally:
        os.umask(before)

    assert (path.read_text(), len(made)) == (made, 43)
    assert stat.S_IMODE(path.stat().st_mode) == 0o440
    assert [one.name for one in tmp_path.iterdir()] == ["token"]
    assert authorization(path) == made


def test_no_two_are_alike(tmp_path: Path) -> None:
    assert len({authorization(tmp_path / str(number)) for number in range(20)}) == 20


def test_all_who_make_it_at_once_have_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        made = set(threads.map(authorization, [tmp_path / "token"] * 200))

    assert made == {(tmp_path / "token").read_text()}
    assert [one.name for one in tmp_path.iterdir()] == ["token"]


def test_one_that_is_mounted_by_the_kubelet_is_read(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "token").write_text("of-a-secret")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "token").symlink_to("..data/token")

    assert authorization(tmp_path / "token") == "of-a-secret"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"planted\n", id="with the newline of an editor"),
        pytest.param(b"planted planted", id="with a space"),
        pytest.param("plantéd".encode(), id="not ASCII"),
    ],
)
def test_what_no_sdk_can_send_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(AuthorizationError, match="visible characters of ASCII, and no newline") as refused:
        authorization(path)

    assert "planted" not in str(refused.value)
    assert path.read_bytes() == content


def test_a_link_is_never_followed_to_make_it(tmp_path: Path) -> None:
    (tmp_path / "token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AuthorizationError, match=r"cannot make the authorization file .*: No such file"):
        authorization(tmp_path / "token")

    assert sorted(one.name for one in tmp_path.iterdir()) == ["token"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("folder", "cannot read .*folder: Is a directory", id="a folder"),
        pytest.param("pipe", "cannot read .*pipe: it is not a regular file", id="a pipe, which nobody waits for"),
        pytest.param("long", "cannot read .*long: it has more than 4096 bytes", id="too long"),
        pytest.param("not/there", "cannot make .*there: No such file or directory", id="in no folder"),
    ],
)
def test_what_cannot_be_read_or_made_is_said_in_a_line(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "long").write_text("planted" * 1000)
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(AuthorizationError, match=says):
        authorization(tmp_path / name)
