import asyncio
import itertools
import os
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from keyturn.api.source import ConfigMapKeyRef, SecretKeyRef
from keyturn.core.errors import KeyturnError, RefusedError
from keyturn.core.pipeline_values import Credentials
from keyturn.sidecar.mounted_files import FileFingerprint, file_fingerprint
from keyturn.standalone.atomic_files import AtomicDir
from keyturn.standalone.source_files import ProjectedToken, SourceFiles
from tests.support.dependencies import HOUR, NOW, request, signed, single_use
from tests.support.mounts import put

KEYS = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "key"}
WITH_ACCESS_KEYS = request(
    source={"credentials": {"secretRef": {"name": "base"}}},
    exchanges=[{"assumeRole": {"roleArn": "arn:aws:iam::111122223333:role/R"}}],
)
STS = ("sts.amazonaws.com",)
APP = {"sub": "system:serviceaccount:billing:app", "aud": ["sts.amazonaws.com", "other"]}
OTHER = request(region="eu-west-1")
CREATE: dict[str, Callable[[Path], None]] = {
    "directory": Path.mkdir, "pipe": os.mkfifo, "loop": lambda path: path.symlink_to(path),
}  # fmt: skip


@pytest.mark.parametrize("check", [SourceFiles.has_changed, SourceFiles.acknowledge_changes])
async def test_file_can_be_read_during_a_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Callable[[SourceFiles], bool]
) -> None:
    sources = SourceFiles(tmp_path)
    for name in ("one", "two"):
        put(tmp_path, name, token="value")
        await sources.read_value("", SecretKeyRef(name, "token"))
    reads = [tmp_path / "three" / "token"]

    def read_another(path: Path) -> FileFingerprint | None:
        if reads:
            asyncio.run(sources.read_file(reads.pop()))
        return file_fingerprint(path)

    put(tmp_path, "three", token="value")
    monkeypatch.setattr("keyturn.standalone.source_files.file_fingerprint", read_another)

    assert not await asyncio.to_thread(check, sources)
    put(tmp_path, "three", token="other")
    assert sources.has_changed()


async def test_token_is_reread_each_time(tmp_path: Path) -> None:
    sources = SourceFiles(tmp_path)
    for token in ("one", "two"):
        put(tmp_path, "license", license_token=f'"{token}"\n')

        assert (await sources.read_source(request())).token == token


async def test_access_keys_and_single_use_credential_are_read(tmp_path: Path) -> None:
    put(tmp_path, "base", **KEYS, AWS_SESSION_TOKEN="session", OTHER="x")
    put(tmp_path, "sign-in", code="the-code")
    source = await SourceFiles(tmp_path).read_source(single_use())

    assert (source.credentials, source.single_use_credential) == (Credentials("AKIA", "key", "session"), "the-code")


@pytest.mark.parametrize("more", [{}, {"AWS_SESSION_TOKEN": ""}], ids=["no file", "an empty file"])
async def test_session_token_is_optional(tmp_path: Path, more: dict[str, str]) -> None:
    put(tmp_path, "base", **KEYS, **more)

    assert (await SourceFiles(tmp_path).read_source(WITH_ACCESS_KEYS)).credentials == Credentials("AKIA", "key")


@pytest.mark.parametrize(
    "ref", [SecretKeyRef(name="client", key="secret"), ConfigMapKeyRef(name="client", key="secret")]
)
async def test_value_of_a_step_is_stripped(tmp_path: Path, ref: SecretKeyRef | ConfigMapKeyRef) -> None:
    put(tmp_path, "client", secret="planted-secret\n")

    assert await SourceFiles(tmp_path).read_value("billing", ref) == "planted-secret"


async def test_update_by_the_kubelet_is_read(tmp_path: Path) -> None:
    mounted = AtomicDir(put(tmp_path, "license"))
    sources = SourceFiles(tmp_path)
    for token in ("one", "two"):
        mounted.write({"license_token": token})

        assert (await sources.read_source(request())).token == token


async def test_projected_volume_is_read(tmp_path: Path) -> None:
    put(tmp_path / "..2026", "license", license_token="one")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "license").symlink_to("..data/license")

    assert (await SourceFiles(tmp_path).read_source(request())).token == "one"


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        pytest.param(None, "SourceNotFound", "license/license_token does not exist", id="no file"),
        pytest.param(b"", "SourceKeyEmpty", "license/license_token is empty", id="empty"),
        pytest.param(b'""\n', "SourceKeyEmpty", "license/license_token is empty", id="only quotes"),
        pytest.param(b"\xff\xfe", "SourceInvalid", "license/license_token is not text", id="not text"),
        pytest.param(b"x" * (1024 * 1024 + 1), "SourceInvalid", "larger than 1048576 bytes", id="too long"),
        pytest.param(b"a b", "SourceInvalid", "contains characters that are not valid in a token", id="not a token"),
        pytest.param("directory", "SourceInvalid", "cannot be read: not a regular file", id="a directory"),
        pytest.param("pipe", "SourceInvalid", "cannot be read: not a regular file", id="a pipe"),
        pytest.param("loop", "SourceNotFound", "cannot be read: Too many levels", id="a link to itself"),
    ],
)
async def test_unreadable_source_is_refused(
    tmp_path: Path, content: bytes | str | None, reason: str, message: str
) -> None:
    path = put(tmp_path, "license") / "license_token"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        CREATE[content](path)

    with pytest.raises(RefusedError, match=message) as error:
        await SourceFiles(tmp_path).read_source(request())
    assert error.value.reason == reason


@pytest.mark.parametrize("directory", [None, "not/there"])
async def test_missing_directory_is_reported(tmp_path: Path, directory: str | None) -> None:
    sources = SourceFiles(tmp_path / directory if directory else None)

    with pytest.raises(RefusedError, match="license") as error:
        await sources.read_source(request())
    assert error.value.reason == "SourceNotFound"


class Swapping(threading.Thread):
    """Replaces the files continuously, faster than the kubelet."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = AtomicDir(directory)
        self.stopped = threading.Event()
        self.swap(0)

    def swap(self, number: int) -> None:
        self._directory.write({"AWS_ACCESS_KEY_ID": f"A{number}", "AWS_SECRET_ACCESS_KEY": f"A{number}"})

    def run(self) -> None:
        for number in itertools.count(1):
            self.swap(number)
            if self.stopped.is_set():
                return


async def keys_read(sources: Path) -> tuple[str, str] | None:
    """Read the access keys; None if the files kept changing."""
    try:
        keys = (await SourceFiles(sources).read_source(WITH_ACCESS_KEYS)).credentials
    except KeyturnError as error:
        if error.reason != "Unavailable":
            raise
        return None
    return (keys.access_key_id, keys.secret_access_key) if keys else None


async def test_files_of_two_versions_are_never_mixed(tmp_path: Path) -> None:
    swapping = Swapping(put(tmp_path, "base"))
    swapping.start()
    try:
        read: set[tuple[str, str]] = set()
        deadline = time.monotonic() + 20
        for number in itertools.count():
            if (number > 100 and len(read) > 3) or time.monotonic() > deadline:
                break
            read |= {keys} if (keys := await keys_read(tmp_path)) else set()
    finally:
        swapping.stopped.set()
        swapping.join()

    assert [keys for keys in read if keys[0] != keys[1]] == []
    assert len(read) > 3


async def test_changes_are_detected(tmp_path: Path) -> None:
    sources = SourceFiles(tmp_path)
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


async def test_value_of_a_step_is_watched_between_exchanges(tmp_path: Path) -> None:
    """Only an exchange reads it; reconciliations in between read the source alone."""
    put(tmp_path, "license", license_token="one")
    put(tmp_path, "client", secret="wrong")
    sources = SourceFiles(tmp_path)
    await sources.read_source(request())
    await sources.read_value("billing", SecretKeyRef(name="client", key="secret"))
    await sources.read_source(request())
    put(tmp_path, "client", secret="right")

    assert (sources.has_changed(), sources.acknowledge_changes(), sources.has_changed()) == (True, True, False)
    await sources.read_source(OTHER)
    put(tmp_path, "client", secret="not read again")
    assert not sources.has_changed()


def projected_token(expires: datetime = NOW + HOUR, **claims: Any) -> str:
    return signed(expires=expires, **(APP | claims))


async def read_projected_token(path: Path | None, audiences: tuple[str, ...] = STS, name: str = "app") -> str:
    return await ProjectedToken(path, SourceFiles(None), lambda: NOW).make_token("default", name, audiences, 3600)


async def test_projected_token_is_reread_each_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    for content in (projected_token(), projected_token(aud="sts.amazonaws.com"), projected_token(sub="demo-user")):
        path.write_text(f"{content}\n")

        assert await read_projected_token(path) == content


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        pytest.param(
            projected_token(aud=["https://kubernetes.default.svc"]), "SourceInvalid",
            "has audience https://kubernetes.default.svc, not sts.amazonaws.com: change the audience in",
            id="another audience",
        ),
        pytest.param(projected_token(aud=None), "SourceInvalid", "has audience none, not", id="no audience"),
        pytest.param(
            projected_token(sub="system:serviceaccount:billing:other"), "SourceInvalid",
            "is for system:serviceaccount:billing:other, not", id="another service account",
        ),
        pytest.param(projected_token(NOW), "SourceExpired", "expired at 2026-01-02T03:04:05Z", id="expired"),
        pytest.param("planted", "SourceInvalid", "does not contain a JWT", id="not a JWT"),
        pytest.param("", "SourceKeyEmpty", "is empty", id="empty"),
        pytest.param(None, "SourceNotFound", "does not exist", id="no file"),
    ],
)  # fmt: skip
async def test_unusable_projected_token_is_refused(
    tmp_path: Path, content: str | None, reason: str, message: str
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)

    with pytest.raises(RefusedError, match=message) as error:
        await read_projected_token(path)
    assert error.value.reason == reason
    assert "planted" not in error.value.message


async def test_every_requested_audience_is_required(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(projected_token())

    assert await read_projected_token(tmp_path / "token", ("other", "sts.amazonaws.com"))
    with pytest.raises(RefusedError, match="not third:"):
        await read_projected_token(tmp_path / "token", ("other", "third"))


async def test_missing_token_file_option_is_reported() -> None:
    with pytest.raises(RefusedError, match="--service-account-token-file"):
        await read_projected_token(None)
