"""The plugin as a program: its commands, its errors of usage, its completion, its start."""

import resource
import subprocess
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
def test_kubectl_finds_it_by_its_name(script: str) -> None:
    module, _, name = SCRIPTS[script].partition(":")

    assert callable(getattr(import_module(module), name))


def test_help_names_every_command() -> None:
    told = CliRunner().invoke(plugin, ["--help"], prog_name="kubectl keyturn").output

    assert "Usage: kubectl keyturn [OPTIONS] COMMAND" in told
    assert all(line in told for line in COMMANDS.values())
    assert CliRunner().invoke(plugin, ["--version"]).output == f"kubectl keyturn, version {__version__}\n"


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "check"])
def test_every_command_takes_the_flags_of_kubectl(command: str) -> None:
    told = CliRunner().invoke(plugin, [command, "--help"]).output

    assert all(flag in told for flag in ("-n, --namespace", "--context", "--kubeconfig"))


def test_check_is_the_same_as_ours(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("apiVersion: keyturn.dev/v1alpha1\nkind: TokenRequest\nspec: {}\n")
    words = ["check", "-f", str(tmp_path / "bad.yaml")]
    ours, theirs = (CliRunner().invoke(group, words) for group in (plugin, keyturn))

    assert ours.exit_code == 1
    assert (ours.output, ours.exit_code) == (theirs.output, theirs.exit_code)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(["status", "acme", "-A"], "NAME or --all-namespaces", id="one of all"),
        pytest.param(["renew"], "give NAMEs, or --all", id="nobody"),
        pytest.param(["renew", "acme", "--all"], "give NAMEs, or --all", id="one and all"),
        pytest.param(["inspect"], "Missing argument 'SECRET'", id="no Secret"),
        pytest.param(["statsu"], "No such command 'statsu'", id="a typo"),
    ],
)
def test_a_wrong_use_is_told(words: list[str], says: str) -> None:
    result = CliRunner().invoke(plugin, words)

    assert result.exit_code == 2
    assert says in result.output


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        pytest.param(["ren"], f"renew\t{COMMANDS['renew']}\n:4\n", id="a command"),
        pytest.param(["renew", "--wa"], "--wait\tWait until it was tried; fail if it failed.\n:4\n", id="a flag"),
        pytest.param(["status", "-o", "j"], "json\n:4\n", id="a choice"),
        pytest.param(["status", "x", "--context", "y"], ":4\n", id="nothing to say"),
    ],
)
def test_kubectl_is_told_how_to_complete(
    words: list[str], answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-keyturn", *words])
    complete()

    assert capsys.readouterr().out == answer


def test_what_status_imports_is_light() -> None:
    program = "import sys, keyturn.cli.kubectl.status; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    heavy = {
        "aiohttp",
        "boto3",
        "botocore",
        "cryptography",
        "jwt",
        "kopf",
        "kubernetes",
        "prometheus_client",
        "yaml",
    }
    assert heavy & set(found) == set()


def test_it_starts_in_a_fraction_of_a_second() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import keyturn.cli.kubectl.status"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)

    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.4  # 0.17, and kubectl as much
