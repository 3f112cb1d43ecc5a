import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from keyturn import __version__
from keyturn.cli import COMMANDS, main
from keyturn.cli.operator import operator
from keyturn.cli.reader import reader
from keyturn.cli.sidecar import MODES

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _process_as_before() -> Iterator[None]:
    """What a command sets for its process is not for the tests that come after."""
    level, depth = logging.getLogger().level, sys.getrecursionlimit()
    yield
    logging.getLogger().setLevel(level)
    sys.setrecursionlimit(depth)


def run(*arguments: str, **environment: str) -> Result:
    """Run a command as a new process would: nothing logs yet."""
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    try:
        return CliRunner(env={"KUBECONFIG": None, **environment}).invoke(main, arguments)
    finally:
        root.handlers = before


def test_version() -> None:
    assert run("--version").output == f"keyturn, version {__version__}\n"


def test_crd_is_the_one_that_is_kept() -> None:
    assert run("crd").output == (ROOT / "crds" / "keyturn.dev_tokenrequests.yaml").read_text()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("aws: {endpoint: {}}", "Object contains unknown field `endpoint` - at `$.aws`", id="a typo"),
        pytest.param("{", "document 1: error: no YAML: ", id="no YAML"),
        pytest.param("[]", "Expected `object`, got `array`", id="a list"),
    ],
)
def test_bad_settings_are_one_error(content: str, says: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(content)
    result = run("operator", f"--config={config}")

    assert (result.exit_code, f"Invalid value for --config: {config}" in result.output) == (2, True)
    assert says in result.output
    assert "Traceback" not in result.output


def flags_told(command: str) -> str:
    """The table of a command's flags in docs/operations/configuration.md."""
    document = (ROOT / "docs" / "operations" / "configuration.md").read_text()
    return document.partition(f"| flag of `{command}` | default | meaning |\n")[2].partition("\n\n")[0]


def test_the_document_tells_every_flag_with_its_default() -> None:
    rows = re.findall(r"^\| (`--.*?`) \| (.*?) \|", flags_told("operator"), re.MULTILINE)
    flags = [it for it in operator.params if isinstance(it, click.Option)]
    # What depends on where it runs is told in words.
    defaults = {flag: None if "`" not in told else told.strip("`") for flag, told in rows}

    assert defaults == {
        ", ".join(f"`{name}`" for name in (*flag.opts, *flag.secondary_opts)): (
            str(flag.default).lower() if isinstance(flag.default, str | int) else None
        )
        for flag in flags
    }


def test_settings_that_are_not_there() -> None:
    result = run("operator", "--config=/not/there")

    assert (result.exit_code, "does not exist" in result.output) == (2, True)


@pytest.mark.parametrize(
    "flags", [pytest.param([], id="no service account"), pytest.param(["--kubeconfig={empty}"], id="empty file")]
)
def test_without_a_cluster_it_is_one_line_and_an_error(flags: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    given = [flag.format(empty=tmp_path / "empty") for flag in flags]
    result = run("operator", *given, KUBERNETES_SERVICE_HOST="", KUBERNETES_SERVICE_PORT="")

    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "ERROR   keyturn: no cluster: " in result.stderr


def test_logs_can_be_json() -> None:
    result = run("operator", "--kubeconfig=/not/there", "--log-format=json")

    assert '"level": "ERROR"' in result.stderr
    assert '"logger": "keyturn"' in result.stderr


def test_no_library_logs_at_debug_level() -> None:
    run("operator", "--kubeconfig=/not/there", "--log-level=debug")

    assert logging.getLogger().level == logging.DEBUG
    for name in ("botocore.parsers", "boto3", "urllib3.connectionpool", "kopf.objects", "aiohttp", "kubernetes"):
        assert logging.getLogger(name).getEffectiveLevel() == logging.WARNING


def test_every_flag_is_an_environment_variable() -> None:
    flags = {option.opts[0]: option.envvar for option in operator.params}

    assert flags["--log-level"] == "KEYTURN_LOG_LEVEL"
    assert flags["--leader-elect"] == "KEYTURN_LEADER_ELECT"
    assert all(str(variable).startswith("KEYTURN_") for variable in flags.values())


def test_an_environment_variable_is_read() -> None:
    result = run("operator", KEYTURN_LOG_LEVEL="loud")

    assert (result.exit_code, "KEYTURN_LOG_LEVEL" in result.output) == (2, True)


@pytest.mark.parametrize("workers", ["0", "257", "many"])
def test_a_number_of_workers_that_cannot_be(workers: str) -> None:
    assert run("operator", f"--workers={workers}").exit_code == 2


def test_each_command_can_be_read_and_says_what_it_does() -> None:
    for name, text in COMMANDS.items():
        assert run(name, "--help").output.startswith("Usage: main ")
        assert text in " ".join(run("--help").output.split())


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_of_the_sidecar_has_options_of_its_own(mode: str) -> None:
    told = run("sidecar", f"--mode={mode}", "--help")

    assert (told.exit_code, "--listen" in told.output) == (0, True)
    assert told.output.startswith("Usage: main sidecar [OPTIONS]\n")
    assert run("sidecar", "--help", KEYTURN_MODE=mode).output == told.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--mode=other"], "Invalid value for '--mode'", id="no such mode"),
        pytest.param([], "Missing option '--secret'", id="no Secret"),
        pytest.param(["--secret=/x", "--key=../x"], "../x is not the key of a Secret", id="a path as key"),
        pytest.param(["--secret=/x", "--key=..data"], "..data is not the key of a Secret", id="the link as key"),
        pytest.param(["--secret=/x", "--loud"], "No such option", id="no such option"),
        pytest.param(["--secret=/x", "more"], "unexpected extra argument", id="an argument"),
    ],
)
def test_what_the_reader_cannot_be_told(arguments: list[str], says: str) -> None:
    result = run("sidecar", *arguments)

    assert (result.exit_code, says in result.output) == (2, True)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        pytest.param({"--listen": "0.0.0.0:9911"}, "cannot serve credentials on 0.0.0.0:9911", id="every address"),
        pytest.param({"--probes-listen": "9912"}, "cannot listen on 9912: it is not HOST:PORT", id="no host"),
        pytest.param({"--authorization-file": "/proc/no/token"}, "cannot create the authorization", id="no file"),
    ],
)
def test_what_keeps_the_reader_from_serving_is_one_line(flags: dict[str, str], says: str, tmp_path: Path) -> None:
    usual = {"--secret": str(tmp_path), "--listen": "127.0.0.1:0", "--probes-listen": "127.0.0.1:0"}
    usual |= {"--authorization-file": str(tmp_path / "token")}
    result = run("sidecar", "--log-level=error", *(f"{name}={value}" for name, value in (usual | flags).items()))

    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert says in result.stderr


def secret(folder: Path, expiration: str) -> Path:
    fields = {"AccessKeyId": "ASIA1", "SecretAccessKey": "planted-secret", "SessionToken": "planted-token"}
    (folder / "credentials.json").write_text(json.dumps(fields | {"Expiration": expiration}))
    return folder


def test_a_credential_process_prints_version_1(tmp_path: Path) -> None:
    result = run("credential-process", f"--secret={secret(tmp_path, '2999-01-01T01:00:00+01:00')}")

    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {
        "Version": 1,
        "AccessKeyId": "ASIA1",
        "SecretAccessKey": "planted-secret",
        "SessionToken": "planted-token",
        "Expiration": "2999-01-01T00:00:00Z",
    }


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(["--secret={folder}"], 1, "the credentials expired at 2001-01-01T00:00:00Z", id="expired"),
        pytest.param(["--secret=/not/there"], 1, "neither credentials.json nor AWS_ACCESS_KEY_ID", id="no Secret"),
        pytest.param([], 2, "set --secret, or --url and --authorization-file", id="nothing"),
        pytest.param(["--url=http://127.0.0.1:1"], 2, "set --secret, or --url and", id="no authorization"),
        pytest.param(
            ["--url=http://10.0.0.7", "--authorization-file=/x"], 1, "must start with http://", id="another host"
        ),
    ],
)
def test_a_credential_process_prints_nothing_else(
    arguments: list[str], code: int, says: str, tmp_path: Path
) -> None:
    folder = secret(tmp_path, "2001-01-01T00:00:00Z")
    result = run("credential-process", *(argument.format(folder=folder) for argument in arguments))

    assert (result.exit_code, result.stdout, says in result.stderr) == (code, "", True)
    assert "planted" not in result.stderr


def test_a_credential_process_finds_the_endpoint_where_sdks_do() -> None:
    uri, file = "http://10.0.0.7/", "/x"
    result = run(
        "credential-process", AWS_CONTAINER_CREDENTIALS_FULL_URI=uri, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=file
    )

    assert "must start with http://" in result.stderr


def test_the_document_tells_every_flag_of_the_reader_with_its_default() -> None:
    told = dict(re.findall(r"^\| `(--[a-z-]+)` \| (.*?) \|", flags_told("sidecar"), re.MULTILINE))
    flags = {flag.opts[0]: flag.default for flag in reader.params if flag.opts[0] != "--help"}

    assert {name: None if it == "none" else it.strip("`") for name, it in told.items()} == {
        name: default if isinstance(default, str) else None for name, default in flags.items()
    }
