import asyncio
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from keyturn.api.token_request import Request
from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.sidecar.credential_cache import CredentialCache, NoCredentialsError
from keyturn.standalone import file_store
from keyturn.standalone.atomic_files import AtomicDir
from keyturn.standalone.file_store import FileStore
from keyturn.standalone.manifest_file import ManifestFile
from keyturn.standalone.token_files import TokenFiles
from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE, HOUR, MINUTE, REFRESH, SECOND
from tests.support.disk import limited_file_size
from tests.support.standalone_run import START, StandaloneRun


async def test_renewal_time_follows_the_expiry(tmp_path: Path) -> None:
    run = StandaloneRun(tmp_path)
    run.outside.aws.life = 3 * MINUTE
    cache = await run.run(7 * MINUTE)

    # At 2, 4 and 6 minutes; each is two exchanges.
    assert run.calls == 2 * 4
    assert cache.credentials
    assert cache.credentials.expires_at == START + 6 * MINUTE + 3 * MINUTE
    assert cache.failure == ""


def suspend(run: StandaloneRun) -> None:
    run.write_manifest(suspend=True)


@pytest.mark.parametrize(
    ("after", "failures", "message"),
    [
        pytest.param(None, 0, "^spec.suspend is set", id="from the start"),
        pytest.param(MINUTE, 0, "expired at .*; spec.suspend is set", id="with expired credentials"),
        pytest.param(MINUTE, 100, "^spec.suspend is set", id="after failures"),
    ],
)
async def test_suspended_request_reports_suspension(
    tmp_path: Path, after: timedelta | None, failures: int, message: str
) -> None:
    run = StandaloneRun(tmp_path, {after: suspend} if after else {})
    if not after:
        suspend(run)
    run.outside.aws.life = 3 * MINUTE
    run.outside.aws.failures = [RefusedError("AccessDenied", "not allowed") for _ in range(failures)]
    cache = await run.run(5 * MINUTE)

    with pytest.raises(NoCredentialsError, match=message):
        cache.document()


async def test_restart_with_output_exchanges_nothing(tmp_path: Path) -> None:
    run = StandaloneRun(tmp_path, has_output=True)
    await run.run(SECOND)
    first = run.calls
    cache = await run.run(5 * MINUTE)

    assert (first, run.calls) == (2, 2)
    assert cache.document()


async def test_restart_without_output_exchanges_again(tmp_path: Path) -> None:
    run = StandaloneRun(tmp_path)
    await run.run(SECOND)
    await run.run(SECOND)

    assert run.calls == 4


async def test_cached_credentials_are_served_during_an_outage(tmp_path: Path) -> None:
    run = StandaloneRun(tmp_path)
    run.outside.aws.life = 10 * MINUTE
    outage = [UnavailableError("Unreachable", "sts could not be reached") for _ in range(1000)]
    run.events[MINUTE] = lambda it: it.outside.aws.failures.extend(outage)
    cache = await run.run(9 * MINUTE)

    assert cache.document()
    assert cache.failure == "sts could not be reached"
    assert (run.condition("Ready"), run.condition("Renewed")) == (("True", "Issued"), ("False", "Unreachable"))

    run.outside.now += 2 * MINUTE
    with pytest.raises(NoCredentialsError, match=r"expired at .*; sts could not be reached"):
        cache.document()


def store_new_token(run: StandaloneRun) -> None:
    run.put_source("other")


async def test_new_source_is_used_within_a_second(tmp_path: Path) -> None:
    run = StandaloneRun(tmp_path, {20 * SECOND: store_new_token})
    await run.run(22 * SECOND)

    assert run.calls == 4


async def test_source_created_later_is_used_within_a_second(tmp_path: Path) -> None:
    run = StandaloneRun(tmp_path, {20 * SECOND: store_new_token})
    run.source.unlink()
    cache = await run.run(22 * SECOND)

    assert (run.calls, cache.failure) == (2, "")


async def test_missing_source_is_reported_and_credentials_are_served(tmp_path: Path) -> None:
    def remove_source(run: StandaloneRun) -> None:
        run.source.unlink()

    run = StandaloneRun(tmp_path, {20 * SECOND: remove_source})
    cache = await run.run(HOUR / 2)

    assert (run.calls, run.condition("Renewed"), run.condition("Ready")[0]) == (
        2,
        ("False", "SourceNotFound"),
        "True",
    )
    assert cache.failure.endswith("license/license_token does not exist")
    assert cache.document()


async def test_refused_source_is_retried_when_it_changes(tmp_path: Path) -> None:
    run = StandaloneRun(tmp_path, {15 * SECOND: store_new_token})
    run.outside.aws.failures.append(RefusedError("SourceInvalid", "the token was refused"))
    cache = await run.run(20 * SECOND)

    assert cache.document()


async def test_rewritten_source_is_retried_at_the_minimum_interval(tmp_path: Path) -> None:
    """The cause may be another file, such as a client secret or a service account token."""

    def touch(run: StandaloneRun) -> None:
        run.put_source("seed")

    run = StandaloneRun(tmp_path, {5 * SECOND: touch})
    run.outside.aws.failures.append(RefusedError("AccessDenied", "not allowed"))
    cache = await run.run(15 * SECOND)

    # Not immediately after the change at five seconds, but when the minimum interval has passed, at ten.
    assert run.calls == 3
    assert cache.credentials
    assert cache.credentials.expires_at >= START + HOUR + 10 * SECOND


async def test_new_role_is_retried_often_for_two_minutes(tmp_path: Path) -> None:
    run = StandaloneRun(tmp_path)
    run.outside.aws.failures = [RefusedError("AccessDenied", "no", eventually_consistent=True) for _ in range(1000)]
    run.events[2 * MINUTE] = lambda it: calls_after_two_minutes.append(it.calls)
    calls_after_two_minutes: list[int] = []
    await run.run(12 * MINUTE)

    assert 12 <= calls_after_two_minutes[0] <= 25
    assert run.calls - calls_after_two_minutes[0] <= 4


async def test_frequent_edits_cause_few_calls(tmp_path: Path) -> None:
    def edit(run: StandaloneRun) -> None:
        run.put_source(f"edit-{run.outside.now:%M%S}")

    run = StandaloneRun(tmp_path, {number * SECOND: edit for number in range(1, 60)})
    run.outside.aws.failures = [RefusedError("SourceInvalid", "the token was refused") for _ in range(100)]
    await run.run(MINUTE)

    assert run.calls <= 7


async def test_new_manifest_is_used_within_a_second(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    role = {"assumeRoleWithWebIdentity": {"roleArn": "arn:aws:iam::111122223333:role/Other"}}
    run = StandaloneRun(tmp_path, {20 * SECOND: lambda it: it.write_manifest(exchanges=[ACCESS_TOKEN, role])})
    with caplog.at_level(logging.INFO):
        await run.run(22 * SECOND)

    assert run.calls == 4
    assert run.loop.status.principal == "arn:aws:iam::111122223333:role/Other"
    assert "billing/acme: the manifest has changed" in caplog.messages


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda it: it.manifest.write_text("kind: Tok"), "must contain a TokenRequest", id="truncated"),
        pytest.param(lambda it: it.manifest.unlink(), "does not exist", id="removed"),
        pytest.param(lambda it: it.write_manifest(region=7), "(at spec.region)", id="invalid"),
        pytest.param(lambda it: it.write_manifest(name="other"), "now contains billing/other", id="another request"),
        pytest.param(
            lambda it: it.write_manifest(target={"formats": [{"credentialsFile": {}}]}),
            "one of the formats env and credentialProcess", id="nothing to serve",
        ),
    ],
)  # fmt: skip
async def test_invalid_manifest_is_logged_once_and_the_previous_one_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Callable[[StandaloneRun], None], message: str
) -> None:
    run = StandaloneRun(tmp_path, {20 * SECOND: change})
    run.outside.aws.life = 3 * MINUTE
    await run.run(3 * MINUTE)

    assert run.calls == 4
    assert [message in line for line in caplog.messages if "stays in use" in line] == [True]


async def test_edited_output_is_repaired_within_a_second(tmp_path: Path) -> None:
    def edit(run: StandaloneRun) -> None:
        file = run.path / "output" / "credentials.json"
        file.chmod(0o600)
        file.write_text("{}")

    run = StandaloneRun(tmp_path, {20 * SECOND: edit}, has_output=True)
    cache = await run.run(22 * SECOND)

    assert (run.calls, run.condition("Renewed")) == (4, ("True", "DriftCorrected"))
    assert b"session-4" in cache.document()
    assert "session-4" in (tmp_path / "output" / "credentials.json").read_text()


async def test_wait_ends_when_the_clock_is_set_back(tmp_path: Path) -> None:
    def set_back(run: StandaloneRun) -> None:
        run.outside.set_clock(-HOUR)
        run.end = run.outside.now + 2 * SECOND

    run = StandaloneRun(tmp_path, {20 * SECOND: set_back})
    run.outside.aws.failures.append(RefusedError("AccessDenied", "not allowed"))
    cache = await run.run(MINUTE)

    assert cache.document()


@pytest.mark.parametrize("step", [400 * SECOND, -10 * SECOND], ids=["set forward", "set back"])
async def test_clock_skew_is_retried_at_once_when_the_clock_is_set(tmp_path: Path, step: timedelta) -> None:
    def set_clock(run: StandaloneRun) -> None:
        run.outside.set_clock(step)
        run.end = run.outside.now + 2 * SECOND

    run = StandaloneRun(tmp_path, {20 * SECOND: set_clock})
    run.outside.aws.failures.append(UnavailableError("ClockSkew", "the node's clock is 7m behind AWS"))
    cache = await run.run(MINUTE)

    assert cache.document()


async def test_expiry_during_an_attempt_is_logged_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def miss_the_renewal(run: StandaloneRun) -> None:
        run.outside.now += 2 * MINUTE - SECOND

    run = StandaloneRun(tmp_path, {MINUTE: miss_the_renewal})
    run.outside.aws.life = 3 * MINUTE
    ready = []

    async def hang(point: str) -> None:
        if point.startswith("before License") and run.calls:
            run.outside.now += SECOND
            async with asyncio.timeout(10):
                while run.condition("Ready")[0] == "True":  # noqa: ASYNC110 - there is no event for it
                    await asyncio.sleep(0.05)
            ready.append(run.condition("Ready"))

    run.outside.watch(hang)
    with caplog.at_level(logging.INFO):
        await run.run(3 * MINUTE + SECOND)

    assert ready == [("False", "Expired")]
    assert run.condition("Ready") == ("True", "Renewed")
    assert sum("Ready=False, Expired" in message for message in caplog.messages) == 1


async def test_condition_changes_are_logged_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = StandaloneRun(tmp_path)
    run.outside.aws.life = 3 * MINUTE
    run.outside.aws.failures = [UnavailableError("Unreachable", "sts could not be reached") for _ in range(3)]
    with caplog.at_level(logging.INFO):
        await run.run(5 * MINUTE)

    changes = [message.partition(": ")[2].split(":")[0] for message in caplog.messages]
    assert changes[:4] == [
        "Ready=False, Unreachable",
        "Renewed=False, Unreachable",
        "Ready=True, Issued",
        "Renewed=True, Issued",
    ]
    assert set(changes[4:]) <= {"Ready=True, Renewed", "Renewed=True, Renewed"}
    assert not any("seed" in message or "session" in message for message in caplog.messages)


async def test_bug_is_logged_and_cached_credentials_are_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class PlantedError(Exception):
        pass

    run = StandaloneRun(tmp_path)
    run.outside.aws.life = 3 * MINUTE
    bugs = [PlantedError("planted-secret") for _ in range(100)]
    run.events[MINUTE] = lambda it: it.outside.aws.failures.extend(bugs)  # type: ignore[arg-type]
    cache = await run.run(2 * MINUTE + 2 * SECOND)

    assert cache.document()
    assert cache.failure.startswith("internal error: PlantedError in exchange dependencies.py")
    assert any("internal error: PlantedError in exchange dependencies.py" in message for message in caplog.messages)
    assert (run.condition("Ready"), run.condition("Renewed")) == (("True", "Issued"), ("False", "InternalError"))
    assert "planted-secret" not in caplog.text


async def run_until_responding(run: StandaloneRun, duration: timedelta, responds: threading.Event) -> CredentialCache:
    """Run for a time. At the end, release the thread that waits for `responds`, even if the run fails."""
    try:
        async with asyncio.timeout(30):
            return await run.run(duration)
    finally:
        responds.set()


async def test_renewals_continue_while_the_file_system_does_not_respond(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    responds, has_changed = threading.Event(), ManifestFile.has_changed

    def hang(manifest: ManifestFile) -> bool:
        responds.wait()
        return has_changed(manifest)

    def recover(run: StandaloneRun) -> None:
        assert run.calls == 2 * 3
        assert run.condition("Ready") == ("True", "Renewed")
        assert sum("does not respond" in message for message in caplog.messages) == 1
        run.write_manifest(suspend=True)
        responds.set()

    monkeypatch.setattr(ManifestFile, "has_changed", hang)
    monkeypatch.setattr("keyturn.standalone.renewal_loop._CHECK_SECONDS", 0.005)
    run = StandaloneRun(tmp_path, {5 * MINUTE: recover})
    run.outside.aws.life = 3 * MINUTE
    cache = await run_until_responding(run, 8 * MINUTE, responds)

    # The file system responds again, and the new manifest is used.
    assert (run.calls, cache.failure) == (2 * 3, "spec.suspend is set: nothing is renewed")


async def test_manifest_whose_read_took_long_is_used_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    responds, read = threading.Event(), ManifestFile.read

    def hang(manifest: ManifestFile) -> Request:
        responds.wait()
        return read(manifest)

    def change(run: StandaloneRun) -> None:
        monkeypatch.setattr(ManifestFile, "read", hang)
        run.write_manifest(suspend=True)

    monkeypatch.setattr("keyturn.standalone.renewal_loop._CHECK_SECONDS", 0.005)
    run = StandaloneRun(tmp_path, {10 * SECOND: change, MINUTE: lambda _: responds.set()})
    cache = await run_until_responding(run, 2 * MINUTE, responds)

    assert cache.failure == "spec.suspend is set: nothing is renewed"


async def test_late_check_of_the_files_keeps_the_minimum_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    responds, acknowledge = threading.Event(), FileStore.acknowledge_source_changes

    def hang(store: FileStore) -> bool:
        responds.wait()
        return acknowledge(store)

    def change(run: StandaloneRun) -> None:
        monkeypatch.setattr(FileStore, "acknowledge_source_changes", hang)
        run.put_source("other")

    def respond(run: StandaloneRun) -> None:
        assert run.calls == 1 + 2
        run.put_source("another")
        responds.set()

    monkeypatch.setattr("keyturn.standalone.renewal_loop._CHECK_SECONDS", 0.005)
    run = StandaloneRun(tmp_path, {5 * SECOND: change, 12 * SECOND: respond})
    run.outside.aws.failures.append(RefusedError("SourceInvalid", "the token was refused"))
    await run_until_responding(run, 18 * SECOND, responds)

    # The check began before the last exchange, at ten seconds.
    assert run.calls == 1 + 2


def store_with_bug(method: str) -> type[FileStore]:
    """Return a FileStore in which this method has a bug."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("planted-secret")

    return type("BuggyStore", (FileStore,), {method: fail})


@pytest.mark.parametrize(
    ("method", "ready"),
    [
        pytest.param("read_target", ("False", "InternalError"), id="reading the output"),
        pytest.param("read_source", ("False", "Expired"), id="reading the source"),
        pytest.param("write", ("False", "Expired"), id="writing the output"),
        pytest.param("has_changed", ("True", "Renewed"), id="waiting for a change"),
        pytest.param("acknowledge_source_changes", ("True", "Renewed"), id="after a change"),
    ],
)
async def test_bug_of_the_store_stops_neither_loop_nor_status(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, method: str, ready: tuple[str, str]
) -> None:
    run = StandaloneRun(tmp_path, has_output=True)
    run.outside.aws.life = 3 * MINUTE
    await run.run(SECOND)
    run.store_type = store_with_bug(method)
    await run.run(4 * MINUTE)

    assert run.task.cancelled()
    assert run.condition("Ready") == ready
    assert "ZeroDivisionError in fail" in caplog.text
    assert "planted" not in caplog.text
    assert run.outside.metrics.registry.get_sample_value("keyturn_internal_errors_total", {"component": "reconcile"})


async def test_each_renewal_consumes_exactly_one_token(tmp_path: Path) -> None:
    run = StandaloneRun(tmp_path, has_output=True)
    run.write_manifest(exchanges=[REFRESH, ASSUME_ROLE], renewal={"renewBeforePercentage": 50})
    run.outside.aws.life = run.outside.aws.issuer.life = MINUTE
    for _ in range(4):
        await run.run(150 * SECOND)

    issuer = run.outside.aws.issuer
    assert len(issuer.consumed) == 20
    assert (issuer.reuses, len(set(issuer.consumed))) == (0, 20)
    loaded = await TokenFiles(tmp_path / "state").read(ManifestFile(run.manifest, START).read())
    assert loaded
    assert loaded.value == issuer.live


async def test_changed_files_do_not_make_the_final_attempt_earlier(tmp_path: Path) -> None:
    def touch(run: StandaloneRun) -> None:
        run.put_source("seed")

    def end_service(run: StandaloneRun) -> None:
        run.outside.aws.issuer.refusal = UnavailableError("Unavailable", "HTTP 502", outcome_unknown=True)

    changes = {40 * MINUTE + seconds * SECOND: touch for seconds in (2, 4, 6)}
    run = StandaloneRun(tmp_path, {MINUTE: end_service, **changes})
    run.write_manifest(exchanges=[REFRESH, ASSUME_ROLE])
    await run.run(41 * MINUTE)

    assert run.outside.aws.issuer.requests == 2


async def test_cancellation_during_an_exchange_saves_the_token(tmp_path: Path) -> None:
    run = StandaloneRun(tmp_path)
    run.write_manifest(exchanges=[REFRESH, ASSUME_ROLE])

    async def end(where: str) -> None:
        if where == "before OauthToken":
            run.task.cancel()
            await asyncio.sleep(0.01)

    run.outside.watch(end)
    await run.run(MINUTE)
    loaded = await TokenFiles(tmp_path / "state").read(ManifestFile(run.manifest, START).read())

    assert loaded
    assert loaded.family
    assert (loaded.value, loaded.family.intent, run.outside.aws.issuer.live) == ("refresh-1", None, "refresh-1")
    assert run.calls == 0


async def test_metrics_include_expiry_and_conditions(tmp_path: Path) -> None:
    run = StandaloneRun(tmp_path)
    await run.run(SECOND)
    run.outside.metrics.export(run.loop.series, dict)
    text = (await run.loop.exposition()).decode()

    assert 'keyturn_credentials_expiration_timestamp_seconds{name="acme",namespace="billing"}' in text
    assert 'keyturn_request_condition{condition="Ready",name="acme"' in text


async def test_renewal_resumes_when_a_blocking_directory_is_removed(tmp_path: Path) -> None:
    data = tmp_path / "output" / "..data"

    def block_output(_: StandaloneRun) -> None:
        data.unlink()
        data.mkdir()

    run = StandaloneRun(tmp_path, {20 * SECOND: block_output, 40 * SECOND: lambda _: data.rmdir()}, has_output=True)
    await run.run(HOUR / 20)

    assert (run.calls, run.condition("Renewed")) == (4, ("True", "Renewed"))
    assert data.is_symlink()


async def test_renewal_resumes_when_a_blocking_file_is_removed(tmp_path: Path) -> None:
    blocking_file = tmp_path / "output" / "credentials.json"
    run = StandaloneRun(tmp_path, {20 * SECOND: lambda _: blocking_file.unlink()}, has_output=True)
    blocking_file.write_text("unrelated")
    cache = await run.run(32 * SECOND)

    assert (run.calls, run.condition("Renewed")) == (2, ("True", "Issued"))
    assert cache.document()


async def test_unrelated_output_files_do_not_trigger_an_attempt(tmp_path: Path) -> None:
    def touch(run: StandaloneRun) -> None:
        (run.path / "output" / "unrelated").write_text("unrelated")

    run = StandaloneRun(tmp_path, {20 * SECOND: touch}, has_output=True)
    run.outside.aws.failures.append(RefusedError("SourceInvalid", "not allowed"))
    await run.run(MINUTE)

    assert run.calls == 1


@contextmanager
def unusable(directory: Path) -> Iterator[None]:
    away = directory.with_name("away")
    directory.rename(away)
    directory.touch()
    yield
    directory.unlink()
    away.rename(directory)


@contextmanager
def removed(directory: Path) -> Iterator[None]:
    away = directory.with_name("away")
    directory.rename(away)
    yield
    away.rename(directory)


@contextmanager
def empty_and_full(directory: Path) -> Iterator[None]:
    with removed(directory):
        directory.mkdir()
        with limited_file_size(10):
            yield
        directory.rmdir()


@contextmanager
def hanging(_: Path) -> Iterator[None]:
    responds, write = threading.Event(), AtomicDir.write

    def write_later(output: AtomicDir, files: Mapping[str, str]) -> None:
        responds.wait()
        write(output, files)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AtomicDir, "write", write_later)
        patch.setattr(file_store, "_ACCESS_SECONDS", 0.2)
        yield
        responds.set()


@pytest.mark.parametrize(
    ("fault", "has_endpoint"),
    [
        pytest.param(hanging, True, id="hanging"),
        pytest.param(unusable, True, id="unusable"),
        pytest.param(unusable, False, id="unusable, without an endpoint"),
        pytest.param(removed, True, id="removed"),
        pytest.param(removed, False, id="removed, without an endpoint"),
        pytest.param(empty_and_full, True, id="empty and full"),
        pytest.param(lambda _: limited_file_size(10), True, id="full"),
        pytest.param(lambda _: limited_file_size(10), False, id="full, without an endpoint"),
    ],
)
async def test_output_that_fails_does_not_end_the_served_credentials(
    tmp_path: Path, fault: Callable[[Path], AbstractContextManager[None]], *, has_endpoint: bool
) -> None:
    output, faults = tmp_path / "output", ExitStack()
    run = StandaloneRun(tmp_path, has_output=True, has_endpoint=has_endpoint)
    run.outside.aws.life = 15 * MINUTE
    expirations: list[datetime] = []

    def check(run: StandaloneRun) -> None:
        assert not has_endpoint or run.cache.document()
        assert run.cache.credentials
        expirations.append(run.cache.credentials.expires_at)

    run.events = {minute * MINUTE: check for minute in range(2, 40)}
    run.events |= {MINUTE: lambda _: faults.enter_context(fault(output)), 40 * MINUTE: lambda _: faults.close()}
    with faults:
        cache = await run.run(42 * MINUTE)

    # Two calls each: with an endpoint a renewal every ten minutes, otherwise at most one that could not be written.
    assert run.calls in (range(8, 13) if has_endpoint else range(4, 7))
    assert expirations == sorted(expirations)
    assert cache.credentials
    assert json.loads((output / "credentials.json").read_text())["Expiration"] == cache.credentials.expiration
    assert run.condition("Renewed")[0] == "True"
