"""Each command of docs/tutorial.md is run, in its order, as it stands there."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.page import ROOT, blocks, run
from tests.controlplane import dies_with_us

_START, *_REST = blocks("docs/tutorial.md")
_COMMANDS = [line for block in _REST for line in block.splitlines()]
# Shorter ones could end before a busy machine has looked at them.
_SESSION_SECONDS = "20"


@pytest.fixture
def playground(tmp_path: Path) -> Iterator[Path]:
    """The file of variables of a running playground."""
    environment = tmp_path / "playground.env"
    command = dies_with_us([sys.executable, "-m", "tests.playground", str(environment)])
    variables = os.environ | {"SESSION_SECONDS": _SESSION_SECONDS}
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert any("ready until Ctrl-C" in line for line in process.stdout)
            yield environment
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


@pytest.mark.long
def test_the_commands_in_their_order(playground: Path) -> None:
    begin, *commands = _COMMANDS
    assert begin == ". build/playground.env"

    shown = {
        f"{number} {command}": run(f". {playground}; {command}", os.environ)
        for number, command in enumerate(commands)
    }

    lists = [text for command, text in shown.items() if re.search(r"get treq( -o wide)?$", command)]
    assert [re.findall(r"^acme-billing +(\w+) +(\w+)", text, re.MULTILINE) for text in lists] == [
        [("True", "Issued")],
        [("True", "Renewed")],
        [("False", "Expired")],
        [("True", "Renewed")],
    ]
    described = next(text for command, text in shown.items() if "describe treq" in command)
    assert "Secret acme-license does not exist" in described
    assert "SourceMissing" in described
    events = next(text for command, text in shown.items() if "get events" in command)
    assert re.findall(r"Normal +(\w+)", events) == ["Issued"]
    assert "AWS_ACCESS_KEY_ID:" in next(text for command, text in shown.items() if "describe secret" in command)


def test_the_playground_is_what_make_starts() -> None:
    recipe = re.search(r"^playground:.*\n\t(.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert _START.split("\n")[:2] == ["make dev", "make playground"]
    assert recipe
    assert recipe[1] == "$(VENV)/python -m tests.playground"
