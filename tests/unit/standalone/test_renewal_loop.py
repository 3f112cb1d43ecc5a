import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.sidecar.credential_cache import Held, UnservableError
from keyturn.standalone.atomic_dir import Folder
from keyturn.standalone.file_store import FileStore
from keyturn.standalone.manifest_file import ManifestFile
from keyturn.standalone.publisher import Giving
from keyturn.standalone.renewal_loop import Renewing
from keyturn.standalone.source_files import Sources
from keyturn.standalone.token_files import FileTokens
from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE, HOUR, MINUTE, REFRESH, SECOND, Outside, manifest
from tests.support.mounts import put

Happening = Callable[["Here"], None]


@dataclass
class Here:
    """One request in files, in virtual time. `happenings` come so long after the start."""

    path: Path
    happenings: dict[timedelta, Happening] = field(default_factory=dict)
    write: bool = False
    serves: bool = True
    outside: Outside = field(default_factory=Outside)

    def __post_init__(self) -> None:
        put(self.path / "sources", "license", license_token="seed")
        for folder in ("write", "state"):
            (self.path / folder).mkdir(exist_ok=True)
        if not self.file.exists():
            self.say()

    @property
    def file(self) -> Path:
        return self.path / "request.yaml"

    def say(self, **spec: Any) -> None:
        """Write the manifest."""
        self.file.write_text(yaml.safe_dump(manifest(**spec)))

    async def run(self, length: timedelta) -> Held:
        """Run a process for so long; what it holds is returned."""
        deps, self.held = self.outside.deps, Held(lambda: self.outside.now)
        file = ManifestFile(self.file, self.outside.now)
        request, giving = file.read(), Giving(self.held, self.serves)
        store = FileStore(
            Sources(self.path / "sources"), Folder(self.path / "write") if self.write else None, giving.give
        )
        deps = replace(deps, store=store, tokens=FileTokens(self.path / "state"), sleep=self._sleep)
        self.renewing = Renewing(deps, store, file, request, giving)
        self.ends = self.outside.now + length
        self.running = asyncio.create_task(self.renewing.go_on())
        await asyncio.wait({self.running})
        if not self.running.cancelled():
            self.running.result()
        return self.held

    async def _sleep(self, seconds: float) -> None:
        self.outside.now += timedelta(seconds=seconds)
        for after in [it for it in self.happenings if it <= self.outside.now - START]:
            self.happenings.pop(after)(self)
        if self.outside.now >= self.ends:
            self.running.cancel()
        await asyncio.sleep(0)

    @property
    def calls(self) -> int:
        return len(self.outside.aws.calls)


START = Outside().now


def condition(here: Here, kind: str) -> tuple[str, str]:
    found = here.renewing.status.condition(kind)
    return (found.status, found.reason) if found else ("", "")


async def test_it_renews_by_the_real_expiry(tmp_path: Path) -> None:
    here = Here(tmp_path)
    here.outside.aws.life = 3 * MINUTE
    held = await here.run(7 * MINUTE)

    # At 2, 4 and 6 minutes; each is two exchanges.
    assert here.calls == 2 * 4
    assert held.served
    assert held.served.expires_at == START + 6 * MINUTE + 3 * MINUTE
    assert held.trouble == ""


async def test_who_asks_is_told_of_a_suspension_with_credentials_that_expired_and_without_any(
    tmp_path: Path,
) -> None:
    never = Here(tmp_path / "never")
    never.say(suspend=True)
    later = Here(tmp_path / "later", happenings={MINUTE: lambda here: here.say(suspend=True)})
    later.outside.aws.life = 3 * MINUTE
    failed = Here(tmp_path / "failed", happenings={MINUTE: lambda here: here.say(suspend=True)})
    failed.outside.aws.failures = [RefusedError("AccessDenied", "not allowed") for _ in range(100)]

    for here, says in (
        (never, "spec.suspend is set"),
        (failed, "spec.suspend is set"),
        (later, "expired at .*; spec.suspend is set"),
    ):
        held = await here.run(5 * MINUTE)
        with pytest.raises(UnservableError, match=f"^(the credentials )?{says}: nothing is renewed$"):
            held.document()


async def test_a_new_process_exchanges_nothing_that_is_not_due(tmp_path: Path) -> None:
    here = Here(tmp_path, write=True)
    await here.run(SECOND)
    first = here.calls
    held = await here.run(5 * MINUTE)

    assert (first, here.calls) == (2, 2)
    assert held.document()


async def test_in_memory_a_new_process_exchanges_again(tmp_path: Path) -> None:
    here = Here(tmp_path)
    await here.run(SECOND)
    await here.run(SECOND)

    assert here.calls == 4


async def test_while_aws_is_away_what_is_held_is_served(tmp_path: Path) -> None:
    here = Here(tmp_path)
    here.outside.aws.life = 10 * MINUTE
    gone = [UnavailableError("Unreachable", "sts could not be reached") for _ in range(1000)]
    here.happenings[MINUTE] = lambda it: it.outside.aws.failures.extend(gone)
    held = await here.run(9 * MINUTE)

    assert held.document()
    assert held.trouble == "sts could not be reached"
    assert (condition(here, "Ready"), condition(here, "Renewed")) == (("True", "Issued"), ("False", "Unreachable"))

    here.outside.now += 2 * MINUTE
    with pytest.raises(UnservableError, match=r"expired at .*; sts could not be reached"):
        held.document()


def new_token(here: Here) -> None:
    put(here.path / "sources", "license", license_token="other")


async def test_another_source_is_seen_within_a_second(tmp_path: Path) -> None:
    here = Here(tmp_path, {20 * SECOND: new_token})
    await here.run(22 * SECOND)

    assert here.calls == 4


async def test_a_source_that_comes_late_is_seen_within_a_second(tmp_path: Path) -> None:
    here = Here(tmp_path, {20 * SECOND: new_token})
    (tmp_path / "sources" / "license" / "license_token").unlink()
    held = await here.run(22 * SECOND)

    assert (here.calls, held.trouble) == (2, "")


async def test_a_source_that_vanishes_is_told_and_what_is_held_is_served(tmp_path: Path) -> None:
    def vanish(here: Here) -> None:
        (here.path / "sources" / "license" / "license_token").unlink()

    here = Here(tmp_path, {20 * SECOND: vanish})
    held = await here.run(HOUR / 2)

    assert (here.calls, condition(here, "Renewed"), condition(here, "Ready")[0]) == (
        2,
        ("False", "SourceNotFound"),
        "True",
    )
    assert held.trouble.endswith("license/license_token does not exist")
    assert held.document()


async def test_a_source_that_was_refused_is_tried_again_when_it_changes(tmp_path: Path) -> None:
    here = Here(tmp_path, {15 * SECOND: new_token})
    here.outside.aws.failures.append(RefusedError("SourceInvalid", "the token was refused"))
    held = await here.run(20 * SECOND)

    assert held.document()


async def test_a_refusal_waits_no_longer_when_a_file_was_written_anew(tmp_path: Path) -> None:
    """What was wrong need not be the source: a client's secret, or the token of a ServiceAccount."""

    def touch(here: Here) -> None:
        put(here.path / "sources", "license", license_token="seed")

    here = Here(tmp_path, {5 * SECOND: touch})
    here.outside.aws.failures.append(RefusedError("AccessDenied", "not allowed"))
    held = await here.run(15 * SECOND)

    # Not at once, at five seconds, but when another try is allowed, at ten.
    assert here.calls == 3
    assert held.served
    assert held.served.expires_at >= START + HOUR + 10 * SECOND


async def test_iam_has_two_minutes_to_know_a_role_and_not_for_ever(tmp_path: Path) -> None:
    here = Here(tmp_path)
    here.outside.aws.failures = [RefusedError("AccessDenied", "no", eventually_consistent=True) for _ in range(1000)]
    here.happenings[2 * MINUTE] = lambda it: soon.append(it.calls)
    soon: list[int] = []
    await here.run(12 * MINUTE)

    assert 12 <= soon[0] <= 25
    assert here.calls - soon[0] <= 4


async def test_edits_in_a_loop_are_no_calls_in_a_loop(tmp_path: Path) -> None:
    def edit(here: Here) -> None:
        put(here.path / "sources", "license", license_token=f"edit-{here.outside.now:%M%S}")

    here = Here(tmp_path, {number * SECOND: edit for number in range(1, 60)})
    here.outside.aws.failures = [RefusedError("SourceInvalid", "the token was refused") for _ in range(100)]
    await here.run(MINUTE)

    assert here.calls <= 7


async def test_another_manifest_is_followed_within_a_second(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    role = {"assumeRoleWithWebIdentity": {"roleArn": "arn:aws:iam::111122223333:role/Other"}}
    here = Here(tmp_path, {20 * SECOND: lambda it: it.say(exchanges=[ACCESS_TOKEN, role])})
    with caplog.at_level(logging.INFO):
        await here.run(22 * SECOND)

    assert here.calls == 4
    assert here.renewing.status.principal == "arn:aws:iam::111122223333:role/Other"
    assert "billing/acme: the manifest has changed" in caplog.messages


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda it: it.file.write_text("kind: Tok"), "must hold a TokenRequest", id="half-written"),
        pytest.param(lambda it: it.file.unlink(), "does not exist", id="removed"),
        pytest.param(lambda it: it.say(region=7), "(at spec.region)", id="invalid"),
        pytest.param(lambda it: it.say(name="other"), "the manifest contains billing/other now", id="another request"),
        pytest.param(
            lambda it: it.say(target={"formats": [{"credentialsFile": {}}]}), "one of env and credentialProcess",
            id="without what is served",
        ),
    ],
)  # fmt: skip
async def test_a_manifest_that_cannot_be_used_is_told_once_and_the_last_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Happening, says: str
) -> None:
    here = Here(tmp_path, {20 * SECOND: change})
    here.outside.aws.life = 3 * MINUTE
    await here.run(3 * MINUTE)

    assert here.calls == 4
    assert [says in message for message in caplog.messages if "stays in use" in message] == [True]


async def test_a_folder_that_is_edited_is_healed_within_a_second(tmp_path: Path) -> None:
    def edit(here: Here) -> None:
        file = here.path / "write" / "credentials.json"
        file.chmod(0o600)
        file.write_text("{}")

    here = Here(tmp_path, {20 * SECOND: edit}, write=True)
    held = await here.run(22 * SECOND)

    assert (here.calls, condition(here, "Renewed")) == (4, ("True", "DriftCorrected"))
    assert b"session-4" in held.document()
    assert "session-4" in (tmp_path / "write" / "credentials.json").read_text()


async def test_a_clock_that_is_set_back_makes_no_wait_longer(tmp_path: Path) -> None:
    def set_back(here: Here) -> None:
        here.outside.set_clock(-HOUR)
        here.ends = here.outside.now + 2 * SECOND

    here = Here(tmp_path, {20 * SECOND: set_back})
    here.outside.aws.failures.append(RefusedError("AccessDenied", "not allowed"))
    held = await here.run(MINUTE)

    assert held.document()


async def test_each_change_of_a_condition_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    here = Here(tmp_path)
    here.outside.aws.life = 3 * MINUTE
    here.outside.aws.failures = [UnavailableError("Unreachable", "sts could not be reached") for _ in range(3)]
    with caplog.at_level(logging.INFO):
        await here.run(5 * MINUTE)

    told = [message.partition(": ")[2].split(":")[0] for message in caplog.messages]
    assert told[:4] == [
        "Ready=False, Unreachable",
        "Renewed=False, Unreachable",
        "Ready=True, Issued",
        "Renewed=True, Issued",
    ]
    assert set(told[4:]) <= {"Ready=True, Renewed", "Renewed=True, Renewed"}
    assert not any("seed" in message or "session" in message for message in caplog.messages)


async def test_a_bug_is_told_by_its_place_and_what_is_held_is_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class PlantedError(Exception):
        pass

    here = Here(tmp_path)
    here.outside.aws.life = 3 * MINUTE
    here.happenings[MINUTE] = lambda it: it.outside.aws.failures.append(PlantedError("planted-secret"))  # type: ignore[arg-type]
    held = await here.run(2 * MINUTE + 2 * SECOND)

    assert held.document()
    assert held.trouble == "internal error in Keyturn; see its log"
    assert any("internal error: PlantedError in exchange dependencies.py" in message for message in caplog.messages)
    assert "planted-secret" not in caplog.text


async def test_twenty_renewals_spend_twenty_tokens(tmp_path: Path) -> None:
    here = Here(tmp_path, write=True)
    here.say(exchanges=[REFRESH, ASSUME_ROLE], renewal={"renewBeforePercentage": 50})
    here.outside.aws.life = here.outside.aws.issuer.life = MINUTE
    for _ in range(4):
        await here.run(150 * SECOND)

    issuer = here.outside.aws.issuer
    assert len(issuer.consumed) == 20
    assert (issuer.reuses, len(set(issuer.consumed))) == (0, 20)
    found = await FileTokens(tmp_path / "state").read(ManifestFile(here.file, START).read())
    assert found
    assert found.value == issuer.live


async def test_an_end_in_an_exchange_saves_what_is_answered(tmp_path: Path) -> None:
    here = Here(tmp_path)
    here.say(exchanges=[REFRESH, ASSUME_ROLE])

    async def end(where: str) -> None:
        if where == "before OauthTokenSpec":
            here.running.cancel()
            await asyncio.sleep(0.01)

    here.outside.watch(end)
    await here.run(MINUTE)
    found = await FileTokens(tmp_path / "state").read(ManifestFile(here.file, START).read())

    assert found
    assert found.family
    assert (found.value, found.family.intent, here.outside.aws.issuer.live) == ("refresh-1", None, "refresh-1")
    assert here.calls == 0


async def test_what_is_exported(tmp_path: Path) -> None:
    here = Here(tmp_path)
    await here.run(SECOND)
    here.outside.metrics.export(here.renewing.series, dict)
    told = here.renewing.exposition().decode()

    assert 'keyturn_credentials_expiration_timestamp_seconds{name="acme",namespace="billing"}' in told
    assert 'keyturn_request_condition{condition="Ready",name="acme",namespace="billing",status="True"} 1.0' in told


async def test_a_folder_in_the_way_holds_back_no_more_when_it_is_gone(tmp_path: Path) -> None:
    data = tmp_path / "write" / "..data"

    def take(_: Here) -> None:
        data.unlink()
        data.mkdir()

    here = Here(tmp_path, {20 * SECOND: take, 40 * SECOND: lambda _: data.rmdir()}, write=True)
    await here.run(HOUR / 20)

    assert (here.calls, condition(here, "Renewed")) == (4, ("True", "Renewed"))
    assert data.is_symlink()


async def test_a_file_in_the_way_holds_back_no_more_when_it_is_gone(tmp_path: Path) -> None:
    mine = tmp_path / "write" / "credentials.json"
    here = Here(tmp_path, {20 * SECOND: lambda _: mine.unlink()}, write=True)
    mine.write_text("mine")
    held = await here.run(32 * SECOND)

    assert (here.calls, condition(here, "Renewed")) == (2, ("True", "Issued"))
    assert held.document()


async def test_whoever_touches_the_folder_causes_no_other_try(tmp_path: Path) -> None:
    def touch(here: Here) -> None:
        (here.path / "write" / "mine").write_text("mine")

    here = Here(tmp_path, {20 * SECOND: touch}, write=True)
    here.outside.aws.failures.append(RefusedError("SourceInvalid", "not allowed"))
    await here.run(MINUTE)

    assert here.calls == 1
