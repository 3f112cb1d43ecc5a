import json
import logging
import resource
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keyturn.sidecar.credential_cache import Held
from keyturn.sidecar.mounted_secret import Mounted
from keyturn.sidecar.reader import Reader
from tests.support.kubelet_mount import process, swap, variables

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Pod:
    """A reader, its folder and its clock."""

    def __init__(self, directory: Path, log: pytest.LogCaptureFixture) -> None:
        log.set_level(logging.INFO)
        self.directory = directory
        self.now = NOW
        self.held = Held(lambda: self.now)
        self.reader = Reader(Mounted(directory), self.held)
        self._log = log

    def given(self) -> str:
        """The key that is given after two looks."""
        self.reader.look()
        self.reader.look()
        key: str = json.loads(self.held.document())["AccessKeyId"]
        return key

    def lines(self) -> list[str]:
        """What was logged since the last time."""
        lines = [record.getMessage() for record in self._log.records]
        self._log.clear()
        return lines


@pytest.fixture
def pod(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Pod:
    return Pod(tmp_path / "secret", caplog)


def test_what_is_there_at_the_start_is_given_after_the_first_look(pod: Pod) -> None:
    swap(pod.directory, process(1, NOW + HOUR))
    pod.reader.look()

    assert json.loads(pod.held.document())["AccessKeyId"] == "ASIA1"
    assert pod.lines() == ["giving credentials that expire at 2026-01-01T01:00:00Z"]


def test_new_versions_are_given(pod: Pod) -> None:
    for number in range(1, 6):
        swap(pod.directory, process(number, NOW + number * HOUR))

        assert pod.given() == f"ASIA{number}"
    assert pod.lines()[-1] == "giving credentials that expire at 2026-01-01T05:00:00Z"


def test_the_form_may_change(pod: Pod) -> None:
    swap(pod.directory, process(1, NOW + HOUR))
    pod.given()
    swap(pod.directory, variables(2, NOW + HOUR))

    assert pod.given() == "ASIA2"


def test_files_that_are_written_one_by_one_are_read_when_all_is_still(pod: Pod) -> None:
    old, new = variables(1, NOW + HOUR), variables(2, NOW + HOUR)
    pod.directory.mkdir()
    for name, text in old.items():
        (pod.directory / name).write_text(text)
    seen = [pod.given()]
    for name, text in new.items():
        (pod.directory / name).write_text(text)
        pod.reader.look()
        seen.append(json.loads(pod.held.document())["AccessKeyId"])

    assert seen == ["ASIA1"] * 5
    assert pod.given() == "ASIA2"


def _vanishes(directory: Path) -> None:
    swap(directory, {})


def _is_half_written(directory: Path) -> None:
    swap(directory, {"credentials.json": '{"AccessKeyId": "planted'})


def _has_wrong_keys(directory: Path) -> None:
    swap(directory, {"token": "planted"})


def _has_expired(directory: Path) -> None:
    swap(directory, process(2, NOW))


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (_vanishes, "there is neither credentials.json nor AWS_ACCESS_KEY_ID in "),
        (_is_half_written, "the file of the credential process is not JSON"),
        (_has_wrong_keys, "there is neither credentials.json"),
        (_has_expired, "expired at 2026-01-01T00:00:00Z"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_trouble_is_said_once_and_what_is_held_is_given_until_it_expires(
    trouble: Callable[[Path], None], says: str, pod: Pod
) -> None:
    swap(pod.directory, process(1, NOW + HOUR))
    pod.given()
    pod.lines()
    trouble(pod.directory)
    given = [pod.given() for _ in range(5)]

    assert given == ["ASIA1"] * 5
    [line] = pod.lines()
    assert says in line
    assert line.endswith("giving credentials that expire at 2026-01-01T01:00:00Z")
    assert says in pod.held.trouble
    assert "planted" not in line

    pod.now += HOUR
    pod.reader.look()
    pod.reader.look()
    [line] = pod.lines()
    assert line.startswith("there is nothing to give: the credentials expired at 2026-01-01T01:00:00Z; ")

    swap(pod.directory, process(3, pod.now + HOUR))
    assert pod.given() == "ASIA3"
    assert (pod.lines(), pod.held.trouble) == (["giving credentials that expire at 2026-01-01T02:00:00Z"], "")


def test_a_secret_may_come_late(pod: Pod) -> None:
    for _ in range(3):
        pod.reader.look()
    [line] = pod.lines()
    swap(pod.directory, process(1, NOW + HOUR))

    assert line.startswith("there is nothing to give: there is neither credentials.json")
    assert pod.given() == "ASIA1"


def test_what_cannot_be_read_is_tried_again_though_the_files_stay_the_same(pod: Pod) -> None:
    swap(pod.directory, process(1, NOW + HOUR))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        pod.reader.look()
        pod.reader.look()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert "Too many open files" in pod.held.trouble
    assert pod.given() == "ASIA1"
