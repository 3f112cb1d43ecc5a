"""A process that is killed before any of its calls to the file system, and what the next one makes of it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

STORIES = [
    pytest.param("refresh token", "later", id="a renewal"),
    pytest.param("code", "first", id="a code"),
    pytest.param("refresh token", "first", id="a first issue", marks=pytest.mark.long),
    pytest.param("code", "later", id="a renewal after a code", marks=pytest.mark.long),
]


def lives(folder: Path, story: str, when: str) -> list[dict[str, Any]]:
    """What became of each, as tests/support/crash_points.py tells it; the last one did not die."""
    command = [sys.executable, "-m", "tests.support.crash_points", str(folder), story, when]
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300, check=True).stdout
    return [json.loads(line) for line in told.splitlines()]


@pytest.mark.parametrize(("story", "when"), STORIES)
def test_a_death_at_any_call_loses_nothing_but_an_answer_that_is_not_written_yet(
    tmp_path: Path, story: str, when: str
) -> None:
    *died, lived = lives(tmp_path, story, when)
    lost = [one for one in died if one["lost"]]
    saved = [one for one in died if not one["lost"]]

    # The answer is in no file yet: one careful try, and then a person must act.
    assert [one["call"] for one in lost] == ["open", "write"]
    assert {(one["reasons"][-1], one["reuses"]) for one in lost} == {("RefreshOutcomeUnknown", 1)}
    # The token lives. Where it was about to be sent it is sent now: who began that is dead, the lock says.
    assert {(one["reasons"][-1], one["reuses"], one["live"]) for one in saved} == {("", 0, True)}
    assert {reason for one in saved for reason in one["reasons"]} == {""}
    assert any(one["intent"] for one in saved)
    assert (lived["call"], len(died) > 40) == ("", True)
    # What is shown is of one issue, and what a death has left is gone.
    assert all(one["whole"] for one in died)
    assert {one["revision"] for one in died} == ({0, 1} if when == "first" else {1, 2})
    assert {len(one["left"]) for one in saved} == {1}
    # Of the state folder: a file is on the disk before it is renamed, and the name before anything goes on.
    calls = [one["call"] for one in died]
    renames = [number for number, call in enumerate(calls[: calls.index("mkdir")]) if call == "replace"]
    assert {tuple(calls[number - 1 : number + 3]) for number in renames} == {("fsync", "replace", "open", "fsync")}
