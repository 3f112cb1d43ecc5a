import json
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from keyturn.cli.documents import dump_document
from keyturn.cli.kubectl import plugin
from keyturn.cli.process import log_to_stderr
from keyturn.cli.terminal import ColoredLine, echo, printable
from keyturn.core.issuance import ISSUANCE_ANNOTATION, MANAGED_BY
from keyturn.core.token_family import TOKEN_FAMILY_ANNOTATION, TokenFamily
from tests.support.cli import run_keyturn
from tests.support.dependencies import manifest
from tests.support.json_schema import load_valid

# Clears the screen, sets the title of the window, turns the direction of text, starts a control sequence with one
# character, and forges a line.
HOSTILE = "\x1b[2J\x1b]0;title\x07\u202e\u2066\x9b31m\x7f\r\nReady  True"
CONDITION = {"type": "Renewed", "status": "False", "reason": "AccessDenied", "message": HOSTILE,
             "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip
REQUEST = manifest() | {
    "status": {"conditions": [CONDITION], "principal": HOSTILE},
    "metadata": manifest()["metadata"] | {"annotations": {"keyturn.dev/renew-requested-at": HOSTILE}},
}
FAMILY = TokenFamily(source_id=f"license/{HOSTILE}", initial_tokens=("1",), live="2")
SECRET = {
    "type": HOSTILE,
    "metadata": {"name": "acme", "namespace": "default", "uid": "u", "resourceVersion": "1",
                 "labels": {MANAGED_BY: "keyturn"}, "annotations": {ISSUANCE_ANNOTATION: HOSTILE}},
    "data": {HOSTILE: ""},
    "items": [],
}  # fmt: skip
TOKEN_SECRET = SECRET | {
    "metadata": SECRET["metadata"] | {"annotations": {TOKEN_FAMILY_ANNOTATION: FAMILY.encoded()}}  # type: ignore[operator]
}
RunPlugin = Callable[..., Result]


@pytest.fixture
def run_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunPlugin:
    """Run the plugin with a kubectl that prints an object, or that fails with a message."""

    def run(printed: Any, *arguments: str) -> Result:
        kubectl = tmp_path / "kubectl"
        (tmp_path / "printed").write_text(printed if isinstance(printed, str) else json.dumps(printed))
        output = ">&2; exit 1" if str(printed).startswith("error") else ""
        kubectl.write_text(f'#!/bin/sh\n/bin/cat "{tmp_path}/printed" {output}\n')
        kubectl.chmod(0o700)
        monkeypatch.setenv("PATH", str(tmp_path))
        return CliRunner().invoke(plugin, arguments)

    return run


def is_printable(text: str) -> bool:
    return all(line.isprintable() and "Ready  True" not in line[:4] for line in text.split("\n"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("Zürich 東京 🔑", "Zürich 東京 🔑", id="text in any language"),
        pytest.param("\x1b[31m", "\\u001b[31m", id="an escape sequence"),
        pytest.param("a\nb\tc", "a\\nb\\tc", id="white space"),
        pytest.param("\u202egpj.exe", "\\u202egpj.exe", id="right to left"),
        pytest.param("\U000e0041", "\\udb40\\udc41", id="an invisible tag character"),
        pytest.param("\udcff", "\\udcff", id="half a surrogate pair"),
    ],
)
def test_unprintable_characters_are_escaped_as_in_json(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert json.loads(json.dumps(text, ensure_ascii=False)) == json.loads(printable(json.dumps(text)))


def test_echo_keeps_the_lines_apart(capsys: pytest.CaptureFixture[str]) -> None:
    echo("one\n", "two")

    assert capsys.readouterr().out == "one\\n\ntwo\n"


def output_on_a_terminal(program: str, **environment: str) -> str:
    """Run a Python program whose stdout is a terminal."""
    terminal, its_end = pty.openpty()
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm", "NO_COLOR": ""} | environment
    with os.fdopen(terminal, "rb", buffering=0) as screen:
        with os.fdopen(its_end, "wb") as stdout:
            subprocess.run([sys.executable, "-c", program], stdout=stdout, env=variables, check=True)
        return screen.read(10_000).decode()


@pytest.mark.parametrize(
    ("environment", "color"),
    [
        pytest.param({}, ("\x1b[31m", "\x1b[0m"), id="a terminal with colors"),
        pytest.param({"NO_COLOR": "1"}, ("", ""), id="NO_COLOR"),
        pytest.param({"TERM": "dumb"}, ("", ""), id="a terminal without colors"),
    ],
)
def test_color_is_printed_to_terminals_only(environment: dict[str, str], color: tuple[str, str]) -> None:
    program = (
        "from keyturn.cli.terminal import *; echo('plain', ColoredLine('red\x1b[2J', 'red'), ColoredLine('x', ''))"
    )
    start, end = color

    assert output_on_a_terminal(program, **environment) == f"plain\r\n{start}red\\u001b[2J{end}\r\nx\r\n"


def test_color_is_not_printed_to_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    echo(ColoredLine("red", "red"))

    assert capsys.readouterr().out == "red\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_closed_stream_is_no_error(closed: str) -> None:
    command = f'"{sys.executable}" -m keyturn check -f - </dev/null {closed}'
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)

    assert (result.returncode, "Traceback" in result.stderr) == (0, False)


@pytest.mark.parametrize(
    ("printed", "arguments"),
    [
        pytest.param(REQUEST, ["status", "acme"], id="status"),
        pytest.param({"items": [REQUEST]}, ["status"], id="status of all"),
        pytest.param({"items": [REQUEST]}, ["status", "-o", "json"], id="status as JSON"),
        pytest.param({"items": [REQUEST]}, ["status", "-o", "yaml"], id="status as YAML"),
        pytest.param(REQUEST, ["renew", "acme", "--wait"], id="renew"),
        pytest.param(SECRET, ["inspect", "acme"], id="inspect"),
        pytest.param(TOKEN_SECRET, ["inspect", "acme"], id="inspect a token Secret"),
        pytest.param(TOKEN_SECRET, ["forget", "acme", "--yes"], id="forget"),
        pytest.param(f"error: {HOSTILE}", ["status"], id="an error of kubectl"),
    ],
)
def test_plugin_escapes_text_of_the_cluster(printed: Any, arguments: list[str], run_plugin: RunPlugin) -> None:
    output = run_plugin(printed, *arguments).output

    assert output
    assert is_printable(output)


def test_doctor_has_exit_code_1_after_an_error(run_plugin: RunPlugin) -> None:
    cluster_without_leases = {"items": [], "spec": {"versions": []}}
    result = run_plugin(cluster_without_leases, "doctor", "-o", "json")
    levels = {finding["message"]: finding["level"] for finding in load_valid("doctor", result.output)["findings"]}

    assert levels["no operator renews its Lease: none is running"] == "error"
    assert result.exit_code == 1
    assert run_plugin("error: forbidden", "doctor").exit_code == 0


def test_deeply_nested_object_is_an_error_in_one_line(run_plugin: RunPlugin) -> None:
    result = run_plugin('{"a":' * 200_000 + "1" + "}" * 200_000, "status", "acme")

    assert result.output == "Error: kubectl returned an object that is nested too deeply\n"


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_escaped_machine_readable_output_keeps_its_content(output: str, run_plugin: RunPlugin) -> None:
    result = run_plugin({"items": [REQUEST]}, "status", "-o", output)

    assert yaml.safe_load(result.stdout)[0]["status"]["principal"] == HOSTILE


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"kind": "Pod", "metadata": {"name": HOSTILE}, "spec": {"containers": 1}}, id="a name"),
        pytest.param(manifest() | {"spec": {HOSTILE: 1}}, id="a field"),
    ],
)
def test_check_escapes_text_of_the_manifest(body: dict[str, Any]) -> None:
    result = run_keyturn("check", "-f", "-", stdin=dump_document(body))

    assert "1b[2J" in result.stdout
    assert is_printable(result.output)


def test_settings_error_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(dump_document({HOSTILE: 1}))
    result = run_keyturn("operator", f"--config={tmp_path}/settings.yaml")

    assert "\\x1b" in result.stderr
    assert is_printable(result.stderr)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_log_is_escaped(log_format: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    log_to_stderr("info", log_format)
    logging.getLogger("keyturn").error("refused: %s", HOSTILE, exc_info=ValueError(HOSTILE))
    output = capsys.readouterr().err

    assert "refused: \\u001b[2J" in output
    assert is_printable(output)
