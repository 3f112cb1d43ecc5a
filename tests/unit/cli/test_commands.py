import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from keyturn import __version__
from keyturn.cli import COMMANDS
from keyturn.cli.operator import operator
from keyturn.cli.run import run, standalone
from keyturn.cli.sidecar import MODES, reader
from tests.support.cli import run_keyturn

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


def test_version_is_printed() -> None:
    assert run_keyturn("--version").output == f"keyturn, version {__version__}\n"


def test_help_lists_every_command_with_its_summary() -> None:
    listed = " ".join(run_keyturn("--help").output.split())

    for name, command in COMMANDS.items():
        assert f"{name} {command.summary}" in listed
        assert run_keyturn(name, "--help").output.startswith("Usage: main ")


@pytest.mark.parametrize("mode", MODES)
def test_sidecar_help_names_the_option_for_the_mode(mode: str) -> None:
    text = run_keyturn("sidecar", f"--mode={mode}", "--help").output

    assert "--mode [reader|standalone] or KEYTURN_MODE" in text


def test_help_shows_no_empty_default() -> None:
    assert '[default: ""' not in run_keyturn("run", "--help").output


def test_invalid_settings_are_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("aws: {endpoint: {}}")
    result = run_keyturn("operator", f"--config={tmp_path / 'config.yaml'}")

    assert (result.exit_code, f"Invalid value for --config: {tmp_path / 'config.yaml'}" in result.output) == (2, True)
    assert "unknown field `endpoint` (at aws)" in result.output


@pytest.mark.parametrize(
    ("flags", "content"),
    [
        pytest.param([], b"", id="no service account"),
        pytest.param(["--kubeconfig={file}"], b"", id="empty file"),
        pytest.param(["--kubeconfig={file}"], b"\xff", id="not text"),
    ],
)
def test_operator_reports_a_missing_cluster_in_one_line(flags: list[str], content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config").write_bytes(content)
    flags = [flag.format(file=tmp_path / "config") for flag in flags]
    result = run_keyturn("operator", *flags, KUBERNETES_SERVICE_HOST="", KUBERNETES_SERVICE_PORT="")

    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "ERROR   keyturn: " in result.stderr


@pytest.mark.parametrize("command", ["operator --kubeconfig=/not/there", "run --filename={} --output-dir={}"])
def test_invalid_proxy_ends_the_command_and_is_not_quoted(command: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").touch()
    arguments = command.format(tmp_path / "r.yaml", tmp_path).split()
    result = run_keyturn(*arguments, HTTPS_PROXY="socks5://user:hunter2@proxy.example")

    assert result.exit_code == 1
    assert "Error: HTTPS_PROXY is not an http:// or https:// URL" in result.stderr
    assert "hunter2" not in result.output


def test_json_logs_have_level_and_logger() -> None:
    result = run_keyturn("operator", "--kubeconfig=/not/there", "--log-format=json")

    assert '"level": "ERROR"' in result.stderr
    assert '"logger": "keyturn"' in result.stderr


def test_libraries_never_log_at_debug_level() -> None:
    run_keyturn("operator", "--kubeconfig=/not/there", "--log-level=debug")

    assert logging.getLogger().level == logging.DEBUG
    for name in ("botocore.parsers", "boto3", "urllib3.connectionpool", "kopf.objects", "aiohttp", "kubernetes"):
        assert logging.getLogger(name).getEffectiveLevel() >= logging.WARNING


@pytest.mark.parametrize("command", [operator, reader, run, standalone], ids=lambda command: str(command.name))
def test_every_flag_is_an_environment_variable(command: click.Command) -> None:
    variables = {param.opts[0]: param.envvar for param in command.params if param.opts[0] not in ("--help", "--once")}

    assert variables == {flag: variables[flag] for flag in variables if str(variables[flag]).startswith("KEYTURN_")}
    assert variables["--log-level"] == "KEYTURN_LOG_LEVEL"


@pytest.mark.parametrize("mode", MODES)
def test_sidecar_mode_has_its_own_options(mode: str) -> None:
    result = run_keyturn("sidecar", f"--mode={mode}", "--help")

    assert (result.exit_code, "--listen" in result.output) == (0, True)
    assert result.output.startswith("Usage: main sidecar [OPTIONS]\n")
    assert run_keyturn("sidecar", "--help", KEYTURN_MODE=mode).output == result.output


@pytest.mark.parametrize(
    ("command", "message"),
    [
        pytest.param("operator --config=/not/there", "does not exist", id="no settings file"),
        pytest.param("operator --concurrent=257", "257 is not in the range", id="too many workers"),
        pytest.param("operator --log-level=loud", "Invalid value for '--log-level'", id="unknown level"),
        pytest.param("sidecar --mode=other", "Invalid value for '--mode'", id="unknown mode"),
        pytest.param("sidecar", "Missing option '--secret-dir'", id="no Secret"),
        pytest.param("sidecar --secret-dir=/x --key=../x", "../x is not a valid Secret key", id="a path as key"),
        pytest.param("sidecar --secret-dir=", "Invalid value for '--secret-dir'", id="an empty Secret directory"),
        pytest.param("sidecar --mode=standalone", "Missing option '--filename' / '-f'", id="standalone, no manifest"),
        pytest.param("credential-process --secret-dir=", "the path is empty", id="credential process, empty path"),
        pytest.param("credential-process", "set --secret-dir, or --url and --authorization-file", id="no source"),
        pytest.param("credential-process --url=http://127.0.0.1:1", "set --secret-dir, or --url", id="no token file"),
        pytest.param("run", "Missing option '--filename' / '-f'", id="no manifest"),
        pytest.param("run -f r", "set --listen, --output-dir or both", id="no destination"),
        pytest.param("run -f r --listen=127.0.0.1:0", "--listen needs --authorization-file", id="no authorization"),
        pytest.param("run -f r --output-dir=w --config=/not/there", "does not exist", id="run, no settings file"),
        pytest.param("run -f r --output-dir=", "Invalid value for '--output-dir'", id="an empty directory"),
        pytest.param("run -f r --output-dir=w --sources-dir=", "the path is empty", id="an empty sources directory"),
        pytest.param("run --filename= --output-dir=w", "the path is empty", id="an empty manifest path"),
        pytest.param("run -f r --once", "--once needs --output-dir", id="once, no destination"),
        pytest.param("run -f r --once --output-dir=w --listen=:0", "--once does not serve", id="once, listening"),
        pytest.param(
            "run -f r --once --output-dir=w --http-bind-address=:0", "--once does not serve", id="once, with metrics"
        ),
    ],
)
def test_wrong_arguments_are_a_usage_error(command: str, message: str) -> None:
    result = run_keyturn(*command.split())

    assert (result.exit_code, message in result.output) == (2, True), result.output


def test_environment_variable_sets_a_flag() -> None:
    result = run_keyturn("operator", KEYTURN_LOG_LEVEL="loud")

    assert (result.exit_code, "KEYTURN_LOG_LEVEL" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param({"--listen": "0.0.0.0:9911"}, "0.0.0.0:9911", id="not loopback"),
        pytest.param({"--http-bind-address": "9912"}, "cannot listen on 9912: it is not HOST:PORT", id="no host"),
        pytest.param({"--authorization-file": "/proc/no/token"}, "authorization", id="no authorization file"),
    ],
)
def test_reader_reports_a_startup_failure_in_one_line(flags: dict[str, str], message: str, tmp_path: Path) -> None:
    defaults = {"--secret-dir": str(tmp_path), "--listen": "127.0.0.1:0", "--http-bind-address": "127.0.0.1:0"}
    defaults |= {"--authorization-file": str(tmp_path / "token")}
    arguments = [f"{name}={value}" for name, value in (defaults | flags).items()]
    result = run_keyturn("sidecar", "--log-level=error", *arguments)

    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert message in result.stderr


def write_credentials(directory: Path, expiration: str) -> Path:
    fields = {"AccessKeyId": "ASIA1", "SecretAccessKey": "planted-secret", "SessionToken": "planted-token"}
    (directory / "credentials.json").write_text(json.dumps(fields | {"Expiration": expiration}))
    return directory


def test_credential_process_prints_version_1(tmp_path: Path) -> None:
    directory = write_credentials(tmp_path, "2999-01-01T01:00:00+01:00")
    result = run_keyturn("credential-process", f"--secret-dir={directory}")

    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {
        "Version": 1,
        "AccessKeyId": "ASIA1",
        "SecretAccessKey": "planted-secret",
        "SessionToken": "planted-token",
        "Expiration": "2999-01-01T00:00:00Z",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--secret-dir={directory}"], "expired at 2001-01-01T00:00:00Z", id="expired"),
        pytest.param(["--secret-dir=/not/there"], "credentials.json", id="no Secret"),
        pytest.param(["--url=http://10.0.0.7", "--authorization-file=/x"], "loopback", id="not loopback"),
    ],
)
def test_credential_process_fails_without_output(arguments: list[str], message: str, tmp_path: Path) -> None:
    directory = write_credentials(tmp_path, "2001-01-01T00:00:00Z")
    result = run_keyturn("credential-process", *(argument.format(directory=directory) for argument in arguments))

    assert (result.exit_code, result.stdout, message in result.stderr) == (1, "", True)
    assert "planted" not in result.stderr


def test_credential_process_reads_the_variables_of_sdks() -> None:
    variables = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://10.0.0.7/",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/x",
    }

    assert "loopback" in run_keyturn("credential-process", **variables).stderr


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        pytest.param("cli.operator", "requests oauthlib websocket kubernetes.dynamic cryptography jwt", id="operator"),
        pytest.param("cli.run", "kopf kubernetes keyturn.controller cryptography jwt", id="run"),
        pytest.param(
            "cli.check.command,cli.manifests",
            "boto3 botocore kopf kubernetes keyturn.controller aiohttp asyncio",
            id="check and inject",
        ),
        pytest.param(
            "cli.kubectl.request_commands",
            "aiohttp boto3 botocore cryptography jwt kopf kubernetes keyturn.controller prometheus_client yaml",
            id="kubectl keyturn status",
        ),
    ],
)
def test_command_does_not_import_heavy_libraries(modules: str, heavy: str) -> None:
    imports = ", ".join(f"keyturn.{module}" for module in modules.split(","))
    program = f"import sys, {imports}; print(*sys.modules)"
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True)

    imported = set(result.stdout.split())
    assert imported & {*heavy.split()} == set()
