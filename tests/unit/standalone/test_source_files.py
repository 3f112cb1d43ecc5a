import itertools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from keyturn.api.base import InvalidSpecError
from keyturn.api.source import ConfigMapKeyRef, SecretKeyRef
from keyturn.core.errors import KeyturnError, RefusedError
from keyturn.core.pipeline_values import Credentials
from keyturn.standalone.atomic_dir import Folder
from keyturn.standalone.source_files import Sources
from tests.support.dependencies import once, request
from tests.support.mounts import put

KEYS = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "key"}
OF_KEYS = request(
    source={"credentials": {"secretRef": {"name": "base"}}},
    exchanges=[{"assumeRole": {"roleArn": "arn:aws:iam::111122223333:role/R"}}],
)

OTHER = request(region="eu-west-1")
MADE: dict[str, Callable[[Path], None]] = {
    "folder": Path.mkdir, "pipe": os.mkfifo, "loop": lambda path: path.symlink_to(path),
}  # fmt: skip


async def test_a_token_is_read_fresh_each_time(tmp_path: Path) -> None:
    sources = Sources(tmp_path)
    for token in ("one", "two"):
        put(tmp_path, "license", license_token=f'"{token}"\n')

        assert (await sources.read_source(request())).token == token


async def test_keys_and_what_works_once(tmp_path: Path) -> None:
    put(tmp_path, "base", **KEYS, AWS_SESSION_TOKEN="session", OTHER="x")
    put(tmp_path, "sign-in", code="the-code")
    source = await Sources(tmp_path).read_source(once())

    assert (source.credentials, source.proof) == (Credentials("AKIA", "key", "session"), "the-code")


async def test_a_session_token_may_be_missing(tmp_path: Path) -> None:
    put(tmp_path, "base", **KEYS)

    assert (await Sources(tmp_path).read_source(OF_KEYS)).credentials == Credentials("AKIA", "key")


@pytest.mark.parametrize(
    "ref", [SecretKeyRef(name="client", key="secret"), ConfigMapKeyRef(name="client", key="secret")]
)
async def test_a_value_of_a_step(tmp_path: Path, ref: SecretKeyRef | ConfigMapKeyRef) -> None:
    put(tmp_path, "client", secret="hush\n")

    assert await Sources(tmp_path).read_value("billing", ref) == "hush"


async def test_a_folder_of_the_kubelet_is_followed(tmp_path: Path) -> None:
    mounted = Folder(put(tmp_path, "license"))
    sources = Sources(tmp_path)
    for token in ("one", "two"):
        mounted.write({"license_token": token})

        assert (await sources.read_source(request())).token == token


async def test_a_projected_volume_of_the_kubelet_is_followed(tmp_path: Path) -> None:
    put(tmp_path / "..2026", "license", license_token="one")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "license").symlink_to("..data/license")

    assert (await Sources(tmp_path).read_source(request())).token == "one"


@pytest.mark.parametrize(
    ("content", "reason", "says"),
    [
        pytest.param(None, "SourceNotFound", "license/license_token does not exist", id="no file"),
        pytest.param(b"", "SourceNotFound", "license/license_token is empty", id="empty"),
        pytest.param(b"\xff\xfe", "SourceInvalid", "license/license_token is not text", id="no text"),
        pytest.param(b"x" * (1024 * 1024 + 1), "SourceInvalid", "it has more than 1048576 bytes", id="too long"),
        pytest.param(b"a b", "SourceInvalid", "holds characters that no token has", id="no token"),
        pytest.param("folder", "SourceInvalid", "cannot be read: Is a directory", id="a folder"),
        pytest.param("pipe", "SourceInvalid", "cannot be read: it is not a regular file", id="a pipe"),
        pytest.param("loop", "SourceNotFound", "cannot be read: Too many levels", id="a link to itself"),
    ],
)
async def test_what_is_no_source(tmp_path: Path, content: bytes | str | None, reason: str, says: str) -> None:
    path = put(tmp_path, "license") / "license_token"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        MADE[content](path)

    with pytest.raises(RefusedError, match=says) as refused:
        await Sources(tmp_path).read_source(request())
    assert refused.value.reason == reason


@pytest.mark.parametrize("folder", [None, "not/there"])
async def test_without_a_folder_everything_is_missing(tmp_path: Path, folder: str | None) -> None:
    sources = Sources(tmp_path / folder if folder else None)

    with pytest.raises(RefusedError, match="license") as refused:
        await sources.read_source(request())
    assert refused.value.reason == "SourceNotFound"


@pytest.mark.parametrize("name", ["..", "../etc", "a/b", "/etc", ".", ""])
@pytest.mark.parametrize("part", ["name", "key"])
def test_no_name_or_key_leads_out_of_the_folder(name: str, part: str) -> None:
    ref = {"name": "license", "key": "license_token"} | {part: name}

    with pytest.raises(InvalidSpecError):
        request(source={"token": {"secretKeyRef": ref}})


class Swapping(threading.Thread):
    """Swaps a folder all the time, as no kubelet does."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = Folder(folder)
        self.stopped = threading.Event()
        self.swap(0)

    def swap(self, number: int) -> None:
        self._folder.write({"AWS_ACCESS_KEY_ID": f"A{number}", "AWS_SECRET_ACCESS_KEY": f"A{number}"})

    def run(self) -> None:
        for number in itertools.count(1):
            self.swap(number)
            if self.stopped.is_set():
                return


async def keys_read(sources: Path) -> tuple[str, str] | None:
    """The keys, None where they changed all the time."""
    try:
        keys = (await Sources(sources).read_source(OF_KEYS)).credentials
    except KeyturnError as error:
        if error.reason != "Unavailable":
            raise
        return None
    return (keys.access_key_id, keys.secret_access_key) if keys else None


async def test_keys_of_two_versions_are_never_mixed(tmp_path: Path) -> None:
    swapping = Swapping(put(tmp_path, "base"))
    swapping.start()
    try:
        read: set[tuple[str, str]] = set()
        deadline = time.monotonic() + 20
        for number in itertools.count():
            if (number > 300 and len(read) > 3) or time.monotonic() > deadline:
                break
            read |= {keys} if (keys := await keys_read(tmp_path)) else set()
    finally:
        swapping.stopped.set()
        swapping.join()

    assert [keys for keys in read if keys[0] != keys[1]] == []
    assert len(read) > 3


async def test_changes_are_noticed(tmp_path: Path) -> None:
    sources = Sources(tmp_path)
    with pytest.raises(RefusedError):
        await sources.read_source(request())
    assert not sources.has_changed()
    put(tmp_path, "license", license_token="one")
    assert sources.has_changed()
    await sources.read_source(request())
    assert not sources.has_changed()
    put(tmp_path, "license", license_token="two")
    assert sources.has_changed()
    await sources.read_source(request())
    put(tmp_path, "other", license_token="x")

    assert not sources.has_changed()


async def test_what_is_read_now_and_then_is_watched_all_the_time(tmp_path: Path) -> None:
    """A step's own value is read by a try only; between two of them many looks read the source alone."""
    put(tmp_path, "license", license_token="one")
    put(tmp_path, "client", secret="wrong")
    sources = Sources(tmp_path)
    await sources.read_source(request())
    await sources.read_value("billing", SecretKeyRef(name="client", key="secret"))
    await sources.read_source(request())
    put(tmp_path, "client", secret="right")

    assert (sources.has_changed(), sources.take_changes(), sources.has_changed()) == (True, True, False)
    await sources.read_source(OTHER)
    put(tmp_path, "client", secret="not read any more")
    assert not sources.has_changed()
