import json
import logging
import resource
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keyturn.sidecar.credential_cache import CredentialCache
from keyturn.sidecar.mounted_files import MountedSecret
from keyturn.sidecar.reader import Reader
from tests.support.kubelet_mount import process, swap, variables

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Pod:
    """A reader with its mounted Secret and its clock."""

    def __init__(self, directory: Path, log: pytest.LogCaptureFixture) -> None:
        log.set_level(logging.INFO)
        self.directory = directory
        self.now = NOW
        self.cache = CredentialCache(lambda: self.now)
        self.reader = Reader(MountedSecret(directory), self.cache)
        self._log = log

    def served_key(self) -> str:
        key: str = json.loads(self.cache.document())["AccessKeyId"]
        return key

    def served_key_after_two_polls(self) -> str:
        self.reader.poll()
        self.reader.poll()
        return self.served_key()

    def new_log_lines(self) -> list[str]:
        lines = [record.getMessage() for record in self._log.records]
        self._log.clear()
        return lines


@pytest.fixture
def pod(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Pod:
    return Pod(tmp_path / "secret", caplog)


def test_first_poll_publishes_immediately(pod: Pod) -> None:
    swap(pod.directory, process(1, NOW + HOUR))
    pod.reader.poll()

    assert pod.served_key() == "ASIA1"
    assert pod.new_log_lines() == ["serving credentials that expire at 2026-01-01T01:00:00Z"]


def test_new_versions_are_published(pod: Pod) -> None:
    for number in range(1, 6):
        swap(pod.directory, process(number, NOW + number * HOUR))

        assert pod.served_key_after_two_polls() == f"ASIA{number}"
    assert pod.new_log_lines()[-1] == "serving credentials that expire at 2026-01-01T05:00:00Z"


def test_format_change_is_followed(pod: Pod) -> None:
    swap(pod.directory, process(1, NOW + HOUR))
    pod.served_key_after_two_polls()
    swap(pod.directory, variables(2, NOW + HOUR))

    assert pod.served_key_after_two_polls() == "ASIA2"


def test_files_written_one_by_one_are_read_once_all_are_stable(pod: Pod) -> None:
    old, new = variables(1, NOW + HOUR), variables(2, NOW + HOUR)
    pod.directory.mkdir()
    for name, text in old.items():
        (pod.directory / name).write_text(text)
    seen = [pod.served_key_after_two_polls()]
    for name, text in new.items():
        (pod.directory / name).write_text(text)
        pod.reader.poll()
        seen.append(pod.served_key())

    assert seen == ["ASIA1"] * 5
    assert pod.served_key_after_two_polls() == "ASIA2"


def empty(directory: Path) -> None:
    swap(directory, {})


def half_written(directory: Path) -> None:
    swap(directory, {"credentials.json": '{"AccessKeyId": "planted'})


def other_keys(directory: Path) -> None:
    swap(directory, {"token": "planted"})


def expired(directory: Path) -> None:
    swap(directory, process(2, NOW))


@pytest.mark.parametrize(
    ("break_secret", "reason"),
    [
        (empty, "contains neither credentials.json nor AWS_ACCESS_KEY_ID"),
        (half_written, "key credentials.json is not valid JSON"),
        (other_keys, "contains neither credentials.json"),
        (expired, "expired at 2026-01-01T00:00:00Z"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_failure_is_logged_once_and_credentials_are_still_served(
    break_secret: Callable[[Path], None], reason: str, pod: Pod
) -> None:
    swap(pod.directory, process(1, NOW + HOUR))
    pod.served_key_after_two_polls()
    pod.new_log_lines()
    break_secret(pod.directory)
    seen = [pod.served_key_after_two_polls() for _ in range(5)]

    assert seen == ["ASIA1"] * 5
    [line] = pod.new_log_lines()
    assert reason in line
    assert line.endswith("serving credentials that expire at 2026-01-01T01:00:00Z")
    assert reason in pod.cache.failure
    assert "planted" not in line

    pod.now += HOUR
    pod.reader.poll()
    pod.reader.poll()
    [line] = pod.new_log_lines()
    assert line.startswith("no credentials to serve: the credentials expired at 2026-01-01T01:00:00Z; ")

    swap(pod.directory, process(3, pod.now + HOUR))
    assert pod.served_key_after_two_polls() == "ASIA3"
    assert pod.new_log_lines() == ["serving credentials that expire at 2026-01-01T02:00:00Z"]
    assert pod.cache.failure == ""


def test_secret_may_be_mounted_later(pod: Pod) -> None:
    for _ in range(3):
        pod.reader.poll()
    [line] = pod.new_log_lines()
    swap(pod.directory, process(1, NOW + HOUR))

    assert line.startswith(f"no credentials to serve: {pod.directory} contains neither credentials.json")
    assert pod.served_key_after_two_polls() == "ASIA1"


def test_failed_read_is_retried_without_a_file_change(pod: Pod) -> None:
    swap(pod.directory, process(1, NOW + HOUR))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        pod.reader.poll()
        pod.reader.poll()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert "Too many open files" in pod.cache.failure
    assert pod.served_key_after_two_polls() == "ASIA1"


def test_credentials_read_while_the_clock_was_ahead_are_published_later(pod: Pod) -> None:
    swap(pod.directory, process(1, NOW + HOUR))
    pod.now = NOW + 2 * HOUR
    pod.reader.poll()
    assert "expired at" in pod.cache.failure
    pod.now = NOW

    assert pod.served_key_after_two_polls() == "ASIA1"
    assert pod.cache.failure == ""
