import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from keyturn.sidecar.credential_cache import NoCredentialsError
from keyturn.sidecar.mounted_files import MountedSecret, file_fingerprint, read_regular_file
from tests.support.irregular_files import IRREGULAR_KINDS, put_irregular_file
from tests.support.kubelet_mount import process, swap, swapping, variables

DESCRIPTORS = Path("/proc/self/fd")
EXPIRES = datetime(2026, 1, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("data", [process, variables])
def test_secret_mounted_by_the_kubelet_is_read(data: Callable[[int, datetime], dict[str, str]], tmp_path: Path) -> None:
    swap(tmp_path, data(1, EXPIRES))
    credentials = MountedSecret(tmp_path).read()

    assert (credentials.access_key_id, credentials.expires_at) == ("ASIA1", EXPIRES)


def test_directory_without_versions_is_read(tmp_path: Path) -> None:
    (tmp_path / "custom.json").write_text(process(1, EXPIRES)["credentials.json"])

    assert MountedSecret(tmp_path, "custom.json").read().access_key_id == "ASIA1"


def test_directory_that_cannot_be_examined_is_reported(tmp_path: Path) -> None:
    """Like one without the permission to enter it: lstat fails, but neither with ENOENT nor with ENOTDIR."""
    secret = MountedSecret(tmp_path / ("a" * 300))

    assert not any(secret.fingerprint()[1])
    with pytest.raises(NoCredentialsError, match="File name too long"):
        secret.read()


def test_fingerprint_changes_with_the_version_and_nothing_else(tmp_path: Path) -> None:
    secret = MountedSecret(tmp_path)
    swap(tmp_path, process(1, EXPIRES))
    before = secret.fingerprint()
    (tmp_path / "other").write_text("")

    assert secret.fingerprint() == before
    swap(tmp_path, process(1, EXPIRES))
    assert secret.fingerprint() != before


def test_fingerprint_changes_with_a_single_file(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("y")
    before = MountedSecret(tmp_path).fingerprint()
    (tmp_path / "credentials.json").chmod(0o400)

    assert MountedSecret(tmp_path).fingerprint() != before


def test_last_changed_is_the_latest_file_unless_the_kubelet_mounted_it(tmp_path: Path) -> None:
    secret = MountedSecret(tmp_path)
    before = secret.last_changed()
    (tmp_path / "credentials.json").write_text("y")
    changed = (tmp_path / "credentials.json").stat().st_ctime

    assert before.timestamp() == 0
    assert secret.last_changed().timestamp() == pytest.approx(changed)
    (tmp_path / "credentials.json").unlink()
    swap(tmp_path, process(1, EXPIRES))
    assert secret.last_changed().timestamp() == 0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param({}, "contains neither credentials.json nor AWS_ACCESS_KEY_ID: check", id="no data"),
        pytest.param({"credentials.json": "{"}, "is not valid JSON", id="incomplete file"),
        pytest.param({"AWS_ACCESS_KEY_ID": "A"}, "have no SecretAccessKey", id="incomplete variables"),
    ],
)
def test_secret_without_credentials_is_refused(data: dict[str, str], reason: str, tmp_path: Path) -> None:
    swap(tmp_path, data)

    with pytest.raises(NoCredentialsError, match=reason):
        MountedSecret(tmp_path).read()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"\xff", "credentials.json is not UTF-8", id="not text"),
        pytest.param(b"x" * (1 << 20) + b"x", "credentials.json: larger than 1048576 bytes", id="too large"),
        pytest.param(None, "cannot read .*credentials.json: not a regular file", id="a directory"),
    ],
)
def test_unreadable_file_is_refused(content: bytes | None, reason: str, tmp_path: Path) -> None:
    if content is None:
        (tmp_path / "credentials.json").mkdir()
    else:
        (tmp_path / "credentials.json").write_bytes(content)

    with pytest.raises(NoCredentialsError, match=reason):
        MountedSecret(tmp_path).read()


def test_missing_directory_may_appear_later(tmp_path: Path) -> None:
    secret = MountedSecret(tmp_path / "missing")
    before = secret.fingerprint()
    with pytest.raises(NoCredentialsError, match="contains neither"):
        secret.read()
    swap(tmp_path / "missing", process(1, EXPIRES))

    assert secret.fingerprint() != before
    assert secret.read().access_key_id == "ASIA1"


def test_link_to_itself_is_refused_until_it_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "..data").symlink_to("..data")
    secret = MountedSecret(tmp_path)
    before = secret.fingerprint()

    with pytest.raises(NoCredentialsError, match=r"cannot read .*: Too many levels of symbolic links"):
        secret.read()
    (tmp_path / "..data").unlink()
    swap(tmp_path, process(1, EXPIRES))
    assert secret.fingerprint() != before


def test_credentials_are_never_mixed_from_two_versions(tmp_path: Path) -> None:
    swap(tmp_path, variables(0, EXPIRES))
    seen: list[tuple[str, ...]] = []
    with swapping(tmp_path, EXPIRES):
        while len({number for number, *_ in seen}) < 50:
            with suppress(NoCredentialsError):  # raised if the files keep changing
                fields = json.loads(MountedSecret(tmp_path).read().document)
                values = (fields["AccessKeyId"], fields["SecretAccessKey"], fields["Token"])
                seen.append(tuple(re.sub(r"\D", "", value) for value in values))

    assert [numbers for numbers in seen if len(set(numbers)) > 1] == []


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
def test_unreadable_regular_file_is_refused_and_closed(name: str, reason: str, tmp_path: Path) -> None:
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
