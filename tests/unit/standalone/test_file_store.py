"""The Store of files: what it shares with the cluster's, and what is its own."""

from dataclasses import replace
from pathlib import Path

import pytest

from keyturn.api.token_request import Request
from keyturn.core.errors import RefusedError
from keyturn.core.issuance import Issuance
from keyturn.core.renewal import check_ours, needs_metadata, renewal_reason
from keyturn.standalone.atomic_dir import Folder
from keyturn.standalone.file_store import ISSUANCE_FILE, FileStore, Issued
from keyturn.standalone.source_files import Sources
from tests.support.dependencies import HOUR, NOW, SECOND, request
from tests.support.disk import no_longer_files
from tests.support.mounts import names, put, shown
from tests.unit.controller.test_secret_store import DATA, issuance
from tests.unit.reconcile.test_store_contract import (
    AGAIN,
    LABELLED,
    InMemory,
    Step,
    apply_metadata,
    delete,
    dry_run,
    read,
    write,
)
from tests.unit.reconcile.test_store_contract import put as put_data

REQUEST = request()


class InFolder:
    """A folder, as the InMemory and InCluster of tests/unit/reconcile/test_store_contract.py."""

    def __init__(self, path: Path | None) -> None:
        self.given: list[Issued] = []
        self.path = path
        self.store = FileStore(Sources(None), Folder(path) if path else None, lambda _, one: self.given.append(one))

    def put(self, data: dict[str, str], _: dict[str, str], __: dict[str, str] | None = None) -> None:
        assert self.path
        for key, value in data.items():
            (self.path / "..data" / key).chmod(0o600)
            (self.path / key).write_text(value)

    def delete(self) -> None:
        assert self.path
        (self.path / "..data").unlink()

    def data(self) -> dict[str, str]:
        """What somebody who knows nothing of versions reads."""
        assert self.path
        return shown(self.path)


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([read, dry_run(), write(), read], id="a first issue"),
        pytest.param([write(), write(), read], id="a renewal"),
        pytest.param([write(), delete, read, dry_run(), write(), read], id="deleted by hand"),
        pytest.param([write(), put_data(data={"token": "x"}), read, apply_metadata(LABELLED), read], id="a key edited"),
        pytest.param([write(), apply_metadata(LABELLED), read], id="dressed"),
        pytest.param([write(), write(AGAIN)], id="taken over"),
    ],
)
async def test_a_folder_tells_the_story_that_secrets_tell(tmp_path: Path, steps: list[Step]) -> None:
    secrets, folder = InMemory(), InFolder(tmp_path)
    for step in steps:
        assert await step(folder) == await step(secrets)  # type: ignore[arg-type]
    assert folder.data() == secrets.facts()["acme"]["data"]


async def found_after(side: InFolder, wanted: Request = REQUEST) -> str | None:
    """Write, and tell for which reason the next look would write again."""
    await side.store.write(wanted, issuance(wanted), DATA)
    found = await side.store.read_target(wanted)
    assert found
    check_ours(wanted, found)
    assert not needs_metadata(wanted, found)
    return renewal_reason(wanted, found, issuance(wanted).source, NOW - SECOND)


@pytest.mark.parametrize("retained", [True, False])
@pytest.mark.parametrize("kind", ["in memory", "in a folder"])
async def test_what_was_written_is_no_reason_to_write(tmp_path: Path, kind: str, *, retained: bool) -> None:
    target = {"metadata": {"labels": {"team": "blue"}}, "deletionPolicy": "Retain" if retained else "Delete"}
    side = InFolder(tmp_path if kind == "in a folder" else None)

    assert await found_after(side, request(target=target)) is None


async def test_a_new_process_finds_and_gives_what_is_there(tmp_path: Path) -> None:
    await InFolder(tmp_path).store.write(REQUEST, issuance(), DATA)
    after = InFolder(tmp_path)
    found = await after.store.read_target(REQUEST)

    assert found
    assert renewal_reason(REQUEST, found, issuance().source, NOW - SECOND) is None
    assert [(one.issuance, one.data) for one in after.given] == [(issuance(), DATA)]


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [
        pytest.param("token", "DriftDetected", id="a value"),
        pytest.param(ISSUANCE_FILE, "IssuanceUnreadable", id="the marks"),
    ],
)
async def test_what_was_edited_is_healed_and_not_given(tmp_path: Path, breaks: str, reason: str) -> None:
    await InFolder(tmp_path).store.write(REQUEST, issuance(), DATA)
    (tmp_path / "..data" / breaks).chmod(0o600)
    (tmp_path / "..data" / breaks).write_text("edited")
    after = InFolder(tmp_path)
    found = await after.store.read_target(REQUEST)

    assert found
    assert renewal_reason(REQUEST, found, issuance().source, NOW - SECOND) == reason
    assert after.given == []


async def test_a_renewal_that_is_moved_changes_the_marks_only(tmp_path: Path) -> None:
    side = InFolder(tmp_path)
    await side.store.write(REQUEST, issuance(), DATA)
    await side.store.read_target(REQUEST)
    later = issuance(renew=issuance().renew + HOUR / 60)
    await side.store.apply_metadata(REQUEST, later)
    found = await InFolder(tmp_path).store.read_target(REQUEST)

    assert found
    assert (found.issuance, found.data_hash) == (later, later.data_hash)


async def test_the_folder_of_another_request_is_not_touched(tmp_path: Path) -> None:
    other = request("other")
    await InFolder(tmp_path).store.write(other, made_for(other), DATA)
    before = names(tmp_path)

    with pytest.raises(RefusedError, match="holds what TokenRequest other was given") as refused:
        await InFolder(tmp_path).store.read_target(REQUEST)
    assert (refused.value.reason, names(tmp_path)) == ("TargetConflict", before)


def made_for(other: Request) -> Issuance:
    return issuance(other, request=other.name)


async def test_a_mounted_secret_is_somebody_elses(tmp_path: Path) -> None:
    Folder(tmp_path).write({"token": "theirs"})

    with pytest.raises(RefusedError, match="holds files of somebody else"):
        await InFolder(tmp_path).store.read_target(REQUEST)


async def test_a_file_of_somebody_else_is_found_out_before_anything_is_exchanged(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("theirs")

    with pytest.raises(RefusedError, match=r"credentials\.json was not made by Keyturn"):
        await InFolder(tmp_path).store.dry_run(REQUEST)


async def test_what_was_issued_is_given_though_the_disk_is_full(tmp_path: Path) -> None:
    side = InFolder(tmp_path)
    with no_longer_files(10), pytest.raises(RefusedError):
        await side.store.write(REQUEST, issuance(), DATA)

    assert [one.data for one in side.given] == [DATA]
    assert await side.store.read_target(REQUEST) is None


async def test_in_memory_nothing_is_rehearsed_and_nothing_changes(tmp_path: Path) -> None:
    side = InFolder(None)
    await side.store.dry_run(REQUEST)

    assert await side.store.read_target(REQUEST) is None
    assert not side.store.has_changed()


async def test_a_change_of_source_or_folder_is_noticed(tmp_path: Path) -> None:
    put(tmp_path / "sources", "license", license_token="one")
    store = FileStore(Sources(tmp_path / "sources"), Folder(tmp_path / "written"), lambda _, __: None)
    (tmp_path / "written").mkdir()
    await store.read_source(REQUEST)
    await store.write(REQUEST, issuance(), DATA)
    assert not store.has_changed()
    (tmp_path / "written" / "token").unlink()
    assert (store.has_changed(), store.take_source_changes()) == (True, False)
    await store.read_target(REQUEST)
    assert not store.has_changed()
    put(tmp_path / "sources", "license", license_token="two")

    assert (store.take_source_changes(), store.take_source_changes(), store.has_changed()) == (True, False, False)


def test_what_was_issued_is_not_shown() -> None:
    issued = replace(Issued(None, DATA))

    assert "planted" not in repr(issued)


async def test_what_is_given_is_in_the_folder_by_then(tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []
    store = FileStore(Sources(None), Folder(tmp_path), lambda _, __: seen.append(shown(tmp_path)))
    await store.write(REQUEST, issuance(), DATA)

    assert seen == [DATA]
