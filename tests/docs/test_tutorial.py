"""Each command of docs/getting-started.md is run, in its order, as it stands there."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.cluster.page import ROOT, blocks, run
from tests.support.controlplane import die_with_parent
from tests.support.prometheus.dashboard import queries
from tools.playground import monitored

_START, *_REST = blocks("docs/getting-started.md")
_COMMANDS = [line for block in _REST for line in block.splitlines()]
# Shorter ones could end before a busy machine has looked at them.
_SESSION_SECONDS = "20"


@pytest.fixture
def playground(tmp_path: Path) -> Iterator[Path]:
    """The file of variables of a running playground."""
    environment = tmp_path / "playground.env"
    command = die_with_parent([sys.executable, "-m", "tools.playground", str(environment)])
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

    alerts = "PROMETHEUS" in playground.read_text()
    shown = {
        f"{number} {command}": run(f". {playground}; {command}", os.environ)
        for number, command in enumerate(commands)
        if alerts or "$PROMETHEUS" not in command
    }

    lists = [text for command, text in shown.items() if re.search(r"get treq( -o wide)?$", command)]
    assert [re.findall(r"^acme-billing +(\w+) +(\w+)", text, re.MULTILINE) for text in lists] == [
        [("True", "Issued")],
        [("True", "Renewed")],
        [("False", "Expired")],
        [("True", "Renewed")],
    ]
    good, lost = told(shown, "keyturn status")
    [events] = told(shown, "get events")
    assert "Renewed     True Renewed" in good
    assert "Renewed     False SourceMissing: Secret acme-license does not exist" in lost
    assert "is an operator running" not in good + lost
    assert re.findall(r"Normal +(\w+)", events) == ["Issued"]
    assert "AWS_ACCESS_KEY_ID:" in told(shown, "describe secret")[0]
    assert "Data        as issued" in told(shown, "keyturn inspect")[0]
    if alerts:
        left, firing, expired, _ = told(shown, "promtool")
        assert re.search(r'name="acme-billing", namespace="default"} => \d', left)
        assert firing.strip() == ""
        assert 'name="acme-billing"' in expired


def told(shown: Mapping[str, str], words: str) -> list[str]:
    """What the commands with these words have printed."""
    return [text for command, text in shown.items() if words in command]


def test_the_queries_are_the_dashboards() -> None:
    panels = dict(queries({"namespace": ".*", "name": ".*", "__rate_interval": "5m"}))
    shown = re.findall(r"^promtool query instant \S+ '(.*)'$", "\n".join(_COMMANDS), re.MULTILINE)

    assert shown == [panels["Expire first"], panels["Alerts that fire"]]


def test_the_playground_is_what_make_starts() -> None:
    recipe = re.search(r"^playground:.*\n\t(.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert _START.split("\n")[:2] == ["make dev", "make playground"]
    assert recipe
    assert recipe[1] == "$(VENV)/python -m tools.playground"


def test_without_a_prometheus_the_playground_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with monitored(tmp_path, "127.0.0.1:9") as variables:
        assert variables == {}

    assert "no alerts, because there is no Prometheus: prometheus is neither on PATH" in capsys.readouterr().out
