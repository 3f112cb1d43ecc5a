import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from keyturn.sidecar.credential_cache import UnservableError
from keyturn.sidecar.mounted_secret import Mounted
from tests.support.kubelet_mount import process, swap, swapping, variables

END = datetime(2026, 1, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("form", [process, variables])
def test_what_the_kubelet_mounts_is_read(form: Callable[[int, datetime], dict[str, str]], tmp_path: Path) -> None:
    swap(tmp_path, form(1, END))
    found = Mounted(tmp_path).read()

    assert (found.access_key_id, found.expires_at) == ("ASIA1", END)


def test_a_folder_without_versions_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(process(1, END)["credentials.json"])

    assert Mounted(tmp_path, "mine.json").read().access_key_id == "ASIA1"


def test_the_stamp_changes_with_what_is_read_and_with_nothing_else(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    swap(tmp_path, process(1, END))
    first = mounted.stamp()
    (tmp_path / "other").write_text("")

    assert mounted.stamp() == first
    swap(tmp_path, process(1, END))
    assert mounted.stamp() != first


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda file: file.write_text("x"), id="written"),
        pytest.param(lambda file: file.unlink(), id="removed"),
        pytest.param(lambda file: file.chmod(0o400), id="made readable"),
    ],
)
def test_the_stamp_changes_with_a_single_file(change: Callable[[Path], None], tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    file.write_text("y")
    os.utime(file, (0, 0))
    before = Mounted(tmp_path).stamp()
    change(file)

    assert Mounted(tmp_path).stamp() != before


def test_when_a_file_was_written_is_told_where_no_kubelet_does_it(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    before = mounted.written_at()
    (tmp_path / "credentials.json").write_text("y")
    changed = (tmp_path / "credentials.json").stat().st_ctime

    assert before.timestamp() == 0
    assert mounted.written_at().timestamp() == pytest.approx(changed)
    (tmp_path / "credentials.json").unlink()
    swap(tmp_path, process(1, END))
    assert mounted.written_at().timestamp() == 0


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param({}, "there is neither credentials.json nor AWS_ACCESS_KEY_ID in ", id="nothing"),
        pytest.param({"credentials.json": "{"}, "is not JSON", id="half a file"),
        pytest.param({"AWS_ACCESS_KEY_ID": "A"}, "have no SecretAccessKey", id="half of the keys"),
    ],
)
def test_what_cannot_be_given(data: dict[str, str], says: str, tmp_path: Path) -> None:
    swap(tmp_path, data)

    with pytest.raises(UnservableError, match=says):
        Mounted(tmp_path).read()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"\xff", "credentials.json is not UTF-8", id="no text"),
        pytest.param(b"x" * (1 << 20) + b"x", "credentials.json: it has more than 1048576 bytes", id="too large"),
        pytest.param(None, "cannot read .*credentials.json: Is a directory", id="a folder"),
    ],
)
def test_files_that_are_none(content: bytes | None, says: str, tmp_path: Path) -> None:
    if content is None:
        (tmp_path / "credentials.json").mkdir()
    else:
        (tmp_path / "credentials.json").write_bytes(content)

    with pytest.raises(UnservableError, match=says):
        Mounted(tmp_path).read()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path / "nothing")
    stamp = mounted.stamp()
    with pytest.raises(UnservableError, match="there is neither"):
        mounted.read()
    swap(tmp_path / "nothing", process(1, END))

    assert mounted.stamp() != stamp
    assert mounted.read().access_key_id == "ASIA1"


def test_a_link_that_leads_to_itself(tmp_path: Path) -> None:
    (tmp_path / "..data").symlink_to("..data")
    mounted = Mounted(tmp_path)
    stamp = mounted.stamp()

    with pytest.raises(UnservableError, match=r"cannot read .*: Too many levels of symbolic links"):
        mounted.read()
    (tmp_path / "..data").unlink()
    swap(tmp_path, process(1, END))
    assert mounted.stamp() != stamp


def test_two_versions_are_never_mixed(tmp_path: Path) -> None:
    swap(tmp_path, variables(0, END))
    seen: list[tuple[str, ...]] = []
    with swapping(tmp_path, END):
        while len({key for key, *_ in seen}) < 50:
            with suppress(UnservableError):  # it says so where files keep changing
                fields = json.loads(Mounted(tmp_path).read().document)
                texts = (fields["AccessKeyId"], fields["SecretAccessKey"], fields["Token"])
                seen.append(tuple(re.sub(r"\D", "", text) for text in texts))

    assert [numbers for numbers in seen if len(set(numbers)) > 1] == []
