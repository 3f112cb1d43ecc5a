"""The plugin as a program: its commands, usage errors, completion and start-up time."""

import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner

from keyturn import __version__
from keyturn.cli import main as keyturn
from keyturn.cli.kubectl import COMMANDS, complete, plugin

ROOT = Path(__file__).parents[3]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@pytest.mark.parametrize("script", ["kubectl-keyturn", "kubectl_complete-keyturn"])
def test_entry_point_has_the_name_that_kubectl_expects(script: str) -> None:
    module, _, name = SCRIPTS[script].partition(":")

    assert callable(getattr(import_module(module), name))


def test_help_lists_every_command() -> None:
    output = CliRunner().invoke(plugin, ["--help"], prog_name="kubectl keyturn").output

    assert "Usage: kubectl keyturn [OPTIONS] COMMAND" in output
    assert all(command.summary in output for command in COMMANDS.values())
    assert CliRunner().invoke(plugin, ["--version"]).output == f"kubectl keyturn, version {__version__}\n"


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("check", "explain")])
def test_command_accepts_kubectl_flags(command: str) -> None:
    output = CliRunner().invoke(plugin, [command, "--help"]).output

    assert all(flag in output for flag in ("-n, --namespace", "--context", "--kubeconfig"))


def test_check_behaves_like_keyturn_check(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("apiVersion: keyturn.dev/v1alpha1\nkind: TokenRequest\nspec: {}\n")
    arguments = ["check", "-f", str(tmp_path / "bad.yaml")]
    results = [CliRunner().invoke(group, arguments) for group in (plugin, keyturn)]

    assert results[0].exit_code == results[1].exit_code == 1
    assert results[0].output == results[1].output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            ["status", "acme", "-A"], "NAMEs cannot be combined with --selector or --all-namespaces", id="a name and -A"
        ),
        pytest.param(["renew"], "specify either NAMEs, --selector or --all", id="no name"),
        pytest.param(["renew", "acme", "--all"], "specify either NAMEs, --selector or --all", id="a name and --all"),
        pytest.param(["status", "secret/acme"], "secret is not a TokenRequest", id="another type"),
        pytest.param(["renew", "acme", "--timeout", "5x"], "5x is not a duration", id="a duration"),
        pytest.param(["inspect"], "Missing argument 'SECRET'", id="no Secret"),
        pytest.param(["statsu"], "No such command 'statsu'. Did you mean status?", id="a typo"),
    ],
)
def test_wrong_arguments_are_a_usage_error(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(plugin, arguments)

    assert (result.exit_code, message in result.output) == (2, True)


@pytest.mark.parametrize(
    ("words", "output"),
    [
        pytest.param(["ren"], f"renew\t{COMMANDS['renew'].summary}\n:4\n", id="a command"),
        pytest.param(["status", "-o", "j"], "json\n:4\n", id="a choice"),
        pytest.param(["status", "x", "--context", "y"], ":4\n", id="no completion"),
    ],
)
def test_completion_is_printed_for_kubectl(
    words: list[str], output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-keyturn", *words])
    complete()

    assert capsys.readouterr().out == output
