import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CASES = [
    pytest.param("refresh token", "later", id="a renewal"),
    pytest.param("code", "first", id="an authorization code"),
    pytest.param("refresh token", "first", id="a first issuance", marks=pytest.mark.long),
    pytest.param("code", "later", id="a renewal after an authorization code", marks=pytest.mark.long),
]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory if possible: about a hundred renewals flush a dozen files each."""
    memory = Path("/dev/shm")  # noqa: S108 - a private directory is created in it
    parent = memory if os.access(memory, os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(dir=parent) as path:
        yield Path(path)


def crash_results(directory: Path, credential: str, when: str) -> list[dict[str, Any]]:
    """The results that tests/support/crash_points.py prints, one for each crash and one without a crash."""
    command = [sys.executable, "-m", "tests.support.crash_points", str(directory), credential, when]
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300, check=True).stdout
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize(("credential", "when"), CASES)
def test_crash_at_any_call_loses_only_a_token_not_yet_written(directory: Path, credential: str, when: str) -> None:
    *crashed, completed = crash_results(directory, credential, when)
    lost = [result for result in crashed if result["lost"]]
    kept = [result for result in crashed if not result["lost"]]

    # The issuer's response is in no file yet: one final attempt, then a person must act. The first call reads the token
    # that is stored, the others write the new one into the reserved space.
    assert [result["call"] for result in lost] == ["open", "open", "fchmod", "write"]
    assert {(result["reasons"][-1], result["reuses"]) for result in lost} == {("RefreshOutcomeUnknown", 1)}
    # The token is live. If it was about to be sent, it is sent now: the lock shows that the other process is dead.
    assert {(result["reasons"][-1], result["reuses"], result["live"]) for result in kept} == {("", 0, True)}
    assert {reason for result in kept for reason in result["reasons"]} == {""}
    assert any(result["intent"] for result in kept)
    assert (completed["call"], len(crashed) > 40) == ("", True)
    # The output is always of one issuance, and leftovers of the crash are removed.
    assert all(result["consistent"] for result in crashed)
    assert {result["revision"] for result in crashed} == ({0, 1} if when == "first" else {1, 2})
    assert {len(result["leftovers"]) for result in kept} == {1}
    # In the state directory a file is flushed before it is renamed, and the rename before anything else happens.
    calls = [result["call"] for result in crashed]
    renames = [number for number, call in enumerate(calls[: calls.index("mkdir")]) if call == "replace"]
    assert {tuple(calls[number - 1 : number + 3]) for number in renames} == {("fsync", "replace", "open", "fsync")}
