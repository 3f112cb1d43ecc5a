"""The commands of docs/getting-started.md run in their order, unchanged."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.cluster.page import run_command, shell_blocks
from tools.playground.monitoring import monitored

_, *_REST = shell_blocks("docs/getting-started.md")
_COMMANDS = [line for block in _REST for line in block.splitlines()]


@pytest.mark.long
def test_commands_run(playground: Path) -> None:
    begin, *commands = _COMMANDS
    assert begin == ". build/playground.env"

    alerts = "PROMETHEUS" in playground.read_text()
    outputs = {
        f"{number} {command}": run_command(f". {playground}; {command}", os.environ)
        for number, command in enumerate(commands)
        if alerts or "$PROMETHEUS" not in command
    }

    lists = [text for command, text in outputs.items() if re.search(r"get treq( -o wide)?$", command)]
    assert [re.findall(r"^acme-billing +(\w+) +(\w+)", text, re.MULTILINE) for text in lists] == [
        [("True", "Issued")],
        [("True", "Renewed")],
        [("False", "Expired")],
        [("True", "Renewed")],
    ]
    healthy, failing = outputs_of(outputs, "keyturn status")
    [events] = outputs_of(outputs, "get events")
    assert "Renewed         True Renewed" in healthy
    assert "Renewed         False SourceNotFound: Secret acme-license does not exist" in failing
    assert "is an operator running" not in healthy + failing
    assert re.findall(r"Normal +(\w+)", events) == ["Issued"]
    assert "AWS_ACCESS_KEY_ID:" in outputs_of(outputs, "describe secret")[0]
    assert "Data            as issued" in outputs_of(outputs, "keyturn inspect")[0]
    if alerts:
        left, firing, expired, _ = outputs_of(outputs, "promtool")
        assert re.search(r'name="acme-billing", namespace="default"} => \d', left)
        assert firing.strip() == ""
        assert 'name="acme-billing"' in expired


def outputs_of(outputs: Mapping[str, str], words: str) -> list[str]:
    return [text for command, text in outputs.items() if words in command]


def test_playground_works_without_prometheus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with monitored(tmp_path, "127.0.0.1:9") as variables:
        assert variables == {}

    assert "No alerts, because Prometheus is not installed: prometheus is not on PATH" in capsys.readouterr().out
