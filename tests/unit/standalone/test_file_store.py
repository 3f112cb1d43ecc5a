import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError, RefusedError
from keyturn.core.issuance import Issuance
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.core.renewal import check_ours, renewal_reason, should_apply_metadata
from keyturn.reconcile.issue import IssueContext, issue
from keyturn.sidecar.credential_cache import CredentialCache, NoCredentialsError
from keyturn.standalone.atomic_files import AtomicDir
from keyturn.standalone.file_store import ISSUANCE_FILE, CredentialPublisher, FileStore, Target, is_servable
from keyturn.standalone.source_files import SourceFiles
from tests.support.cluster_secrets import ClusterSecrets
from tests.support.dependencies import ACCESS_TOKEN, HOUR, MINUTE, NOW, SECOND, request
from tests.support.disk import limited_file_size
from tests.support.mounts import names, put, visible_files

REQUEST = request(exchanges=[ACCESS_TOKEN], target={"formats": [{"token": {}}]})
VALUES = PipelineValues(access_token=Token("planted-token", NOW + HOUR))
EXPIRES = NOW + HOUR
ALL_VALUES = PipelineValues(
    access_token=Token("planted-access", EXPIRES),
    credentials=Credentials("ASIA1", "planted-key", "planted-session", EXPIRES),
)
LOOKALIKE = {"template": {"key": "credentials.json", "text": "x"}}
DATA = {"token": "planted-token", "expiration": "2026-01-02T04:04:05Z"}


def issuance(labelled_request: Request = REQUEST, **changes: Any) -> Issuance:
    record, _ = issue(labelled_request, VALUES, IssueContext("source", None, 1, 0.0, NOW))
    return msgspec.structs.replace(record, **changes)


def with_target(**target: Any) -> Request:
    return request(exchanges=[ACCESS_TOKEN], target={"formats": [{"token": {}}]} | target)


@dataclass
class Output:
    """A FileStore, what it published, and its output directory."""

    path: Path | None
    published: list[Target] = field(default_factory=list)

    def __post_init__(self) -> None:
        output = AtomicDir(self.path) if self.path else None
        self.store = FileStore(SourceFiles(None), output, lambda _, target: self.published.append(target))

    def edit(self, key: str, text: str) -> None:
        assert self.path
        (self.path / "..data" / key).chmod(0o600)
        (self.path / "..data" / key).write_text(text)


LABELLED = with_target(metadata={"labels": {"team": "blue"}})
READ, WRITE, DRY_RUN, DELETE, EDIT, RELABEL = "read", "write", "dry run", "delete", "edit", "apply metadata"


async def step(side: Output | ClusterSecrets, name: str) -> object:
    """Perform a step on the directory or on a Secret, and return the result as a reconciliation sees it."""
    store = side.store
    if name == DELETE:
        (side.path / "..data").unlink() if isinstance(side, Output) and side.path else None
        side.delete("acme") if isinstance(side, ClusterSecrets) else None
    elif name == EDIT:
        side.edit("token", "x") if isinstance(side, Output) else side.put("acme", data={"token": "x"})
    elif name == READ:
        target = await store.read_target(REQUEST)
        return target and (target.issuance is not None, target.owners)
    elif name == WRITE:
        await store.write(REQUEST, issuance(), DATA)
    elif name == DRY_RUN:
        await store.dry_run(REQUEST)
    else:
        await store.apply_metadata(LABELLED, issuance(LABELLED))
    return None


async def outcomes(side: Output | ClusterSecrets, steps: list[str]) -> list[object]:
    results: list[object] = []
    for name in steps:
        try:
            results.append(await step(side, name))
        except KeyturnError as error:
            results.append((error.reason, error.message))
    return results


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([READ, DRY_RUN, WRITE, READ], id="first issuance"),
        pytest.param([WRITE, WRITE, READ], id="a renewal"),
        pytest.param([WRITE, DELETE, READ, DRY_RUN, WRITE, READ], id="deleted manually"),
        pytest.param([WRITE, EDIT, READ, RELABEL, READ], id="a key edited"),
        pytest.param([WRITE, RELABEL, READ], id="metadata applied"),
    ],
)
async def test_directory_behaves_like_a_secret(tmp_path: Path, steps: list[str]) -> None:
    output, secrets = Output(tmp_path), ClusterSecrets(time.monotonic)
    secrets.create_request(REQUEST)

    assert await outcomes(output, steps) == await outcomes(secrets, steps)
    assert visible_files(tmp_path) == secrets.data("acme")


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
@pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "in a directory"])
async def test_written_target_needs_no_further_write(tmp_path: Path, policy: str, *, in_memory: bool) -> None:
    labelled_request = with_target(metadata={"labels": {"team": "blue"}}, deletionPolicy=policy)
    output = Output(None if in_memory else tmp_path)
    await output.store.write(labelled_request, issuance(labelled_request), DATA)
    target = await output.store.read_target(labelled_request)

    assert target
    check_ours(labelled_request, target)
    assert not should_apply_metadata(labelled_request, target)
    assert renewal_reason(labelled_request, target, "source", NOW - SECOND) is None


async def test_new_process_publishes_the_existing_target(tmp_path: Path) -> None:
    await Output(tmp_path).store.write(REQUEST, issuance(), DATA)
    restarted = Output(tmp_path)
    target = await restarted.store.read_target(REQUEST)

    assert target
    assert renewal_reason(REQUEST, target, "source", NOW - SECOND) is None
    assert restarted.published == [Target(issuance(), DATA)]


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        pytest.param("token", "DriftDetected", id="a value"),
        pytest.param(ISSUANCE_FILE, "IssuanceUnreadable", id="the issuance record"),
    ],
)
async def test_edited_target_is_renewed_and_not_published(tmp_path: Path, file: str, reason: str) -> None:
    await Output(tmp_path).store.write(REQUEST, issuance(), DATA)
    restarted = Output(tmp_path)
    restarted.edit(file, "edited")
    target = await restarted.store.read_target(REQUEST)

    assert target
    assert renewal_reason(REQUEST, target, "source", NOW - SECOND) == reason
    assert restarted.published == []


async def test_new_issuance_record_keeps_the_data(tmp_path: Path) -> None:
    output = Output(tmp_path)
    await output.store.write(REQUEST, issuance(), DATA)
    await output.store.read_target(REQUEST)
    later = issuance(renew=issuance().renew + MINUTE)
    await output.store.apply_metadata(REQUEST, later)
    target = await Output(tmp_path).store.read_target(REQUEST)

    assert target
    assert (target.issuance, target.data_hash) == (later, later.data_hash)


async def test_directory_of_another_request_is_refused(tmp_path: Path) -> None:
    other = request("other", exchanges=[ACCESS_TOKEN], target={"formats": [{"token": {}}]})
    await Output(tmp_path).store.write(other, issuance(other), DATA)
    before = names(tmp_path)

    with pytest.raises(RefusedError, match="contains the credentials of TokenRequest other") as error:
        await Output(tmp_path).store.read_target(REQUEST)
    assert (error.value.reason, names(tmp_path)) == ("TargetConflict", before)


async def test_secret_mounted_by_the_kubelet_is_refused(tmp_path: Path) -> None:
    AtomicDir(tmp_path).write({"token": "foreign"})

    with pytest.raises(RefusedError, match="contains files of another program"):
        await Output(tmp_path).store.read_target(REQUEST)


async def test_dry_run_refuses_a_file_of_another_program(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("foreign")

    with pytest.raises(RefusedError, match="token was not created by Keyturn"):
        await Output(tmp_path).store.dry_run(REQUEST)


async def test_credentials_are_published_when_the_disk_is_full(tmp_path: Path) -> None:
    output = Output(tmp_path)
    with limited_file_size(10), pytest.raises(RefusedError):
        await output.store.write(REQUEST, issuance(), DATA)

    assert [target.data for target in output.published] == [DATA]
    assert visible_files(tmp_path) == {}


async def test_data_that_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    output = Output(tmp_path)
    await output.store.write(REQUEST, issuance(revision=0), {"token": "old"})
    with limited_file_size(10):
        with pytest.raises(RefusedError):
            await output.store.write(REQUEST, issuance(), DATA)
        with pytest.raises(RefusedError):
            await output.store.read_target(REQUEST)
    target = await output.store.read_target(REQUEST)

    assert target
    assert target.issuance == issuance()
    assert visible_files(tmp_path) == DATA
    # The endpoint never returns to the previous version.
    assert [target.data for target in output.published[1:]] == [DATA, DATA]


async def test_files_are_written_before_credentials_are_published(tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []
    store = FileStore(SourceFiles(None), AtomicDir(tmp_path), lambda _, __: seen.append(visible_files(tmp_path)))
    await store.write(REQUEST, issuance(), DATA)

    assert seen == [DATA]


async def test_store_without_a_directory_reports_no_changes() -> None:
    output = Output(None)
    await output.store.dry_run(REQUEST)

    assert await output.store.read_target(REQUEST) is None
    assert not output.store.has_changed()


async def test_changes_of_source_and_directory_are_detected(tmp_path: Path) -> None:
    put(tmp_path / "sources", "license", license_token="one")
    output = tmp_path / "output"
    store = FileStore(SourceFiles(tmp_path / "sources"), AtomicDir(output), lambda _, __: None)
    output.mkdir()
    await store.read_source(REQUEST)
    await store.write(REQUEST, issuance(), DATA)
    assert not store.has_changed()
    (output / "token").unlink()
    assert (store.has_changed(), store.acknowledge_source_changes()) == (True, False)
    await store.read_target(REQUEST)
    assert not store.has_changed()
    put(tmp_path / "sources", "license", license_token="two")

    assert [store.acknowledge_source_changes(), store.acknowledge_source_changes()] == [True, False]
    assert not store.has_changed()


def test_repr_contains_no_secret() -> None:
    assert "planted" not in repr(Target(None, DATA))


def with_formats(*formats: dict[str, Any]) -> Request:
    return request(target={"formats": list(formats)})


def issued_target(request: Request) -> Target:
    return Target(*issue(request, ALL_VALUES, IssueContext("source", None, 1, 0.0, NOW)))


@pytest.mark.parametrize(
    "formats",
    [
        pytest.param([{"env": {}}], id="env"),
        pytest.param([{"credentialProcess": {}}], id="credentialProcess"),
        pytest.param([{"credentialProcess": {"key": "custom"}}], id="another key"),
        pytest.param([{"credentialProcess": {"key": "custom"}}, LOOKALIKE], id="a template with the default key"),
    ],
)
def test_servable_formats_are_published(formats: list[dict[str, Any]]) -> None:
    cache, servable = CredentialCache(lambda: NOW), with_formats(*formats)
    CredentialPublisher(cache, has_endpoint=True).publish(servable, issued_target(servable))

    assert is_servable(servable)
    assert cache.credentials
    assert (cache.credentials.access_key_id, cache.credentials.expires_at) == ("ASIA1", EXPIRES)
    assert b"planted-session" in cache.document()


def test_unservable_target_keeps_the_cached_credentials() -> None:
    cache, servable, unservable = (
        CredentialCache(lambda: NOW),
        with_formats({"env": {}}),
        with_formats({"credentialsFile": {}}),
    )
    publisher = CredentialPublisher(cache, has_endpoint=True)
    publisher.publish(servable, issued_target(servable))
    before = cache.document()
    publisher.publish(unservable, issued_target(unservable))

    assert not is_servable(unservable)
    assert (cache.document(), cache.failure) == (before, "the credentials have no AccessKeyId")


def test_without_an_endpoint_only_the_expiry_is_published() -> None:
    now = [NOW]
    cache, unservable = CredentialCache(lambda: now[0]), with_formats({"credentialsFile": {}})
    CredentialPublisher(cache, has_endpoint=False).publish(unservable, issued_target(unservable))

    assert cache.document() == b""
    now[0] = EXPIRES + SECOND
    with pytest.raises(NoCredentialsError):
        cache.document()


def test_target_without_issuance_record_is_not_published() -> None:
    cache, servable = CredentialCache(lambda: NOW), with_formats({"env": {}})
    CredentialPublisher(cache, has_endpoint=True).publish(servable, Target(None, issued_target(servable).data))

    assert cache.credentials is None
