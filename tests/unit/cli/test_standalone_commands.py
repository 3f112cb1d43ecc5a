import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from keyturn.cli.renew import renew
from keyturn.cli.run import run as run_command
from keyturn.cli.standalone import standalone
from tests.support.dependencies import manifest
from tests.unit.cli.test_commands import run


@pytest.fixture
def request_file(tmp_path: Path) -> str:
    (tmp_path / "request.yaml").write_text(yaml.safe_dump(manifest()))
    return str(tmp_path / "request.yaml")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["run"], "Missing option '--filename' / '-f'", id="no file"),
        pytest.param(
            ["run", "-f", "r"], "say where the credentials go: --listen, --output-dir or both", id="nowhere to"
        ),
        pytest.param(["run", "-f", "r", "--listen=127.0.0.1:0"], "--listen needs --authorization-file", id="no token"),
        pytest.param(["run", "-f", "r", "--output-dir=w", "--config=/not/there"], "does not exist", id="no settings"),
        pytest.param(["run", "-f", "r", "--output-dir="], "Invalid value for '--output-dir'", id="an empty folder"),
        pytest.param(["run", "-f", "r", "--output-dir=w", "--sources-dir="], "it is empty", id="empty sources"),
        pytest.param(["run", "--filename=", "--output-dir=w"], "it is empty", id="an empty file"),
        pytest.param(["sidecar", "--secret-dir="], "Invalid value for '--secret-dir'", id="an empty Secret"),
        pytest.param(["credential-process", "--secret-dir="], "it is empty", id="an empty Secret for a process"),
        pytest.param(["renew", "-f", "r", "--output-dir=w"], "give --once; what goes on is keyturn run", id="not once"),
        pytest.param(
            ["renew", "-f", "r", "--once"], "say where the credentials go: --output-dir", id="nowhere to, once"
        ),
        pytest.param(
            ["sidecar", "--mode=standalone"], "Missing option '--filename' / '-f'", id="a sidecar without file"
        ),
    ],
)
def test_what_is_missing_is_a_usage_error(arguments: list[str], says: str) -> None:
    result = run(*arguments)

    assert (result.exit_code, says in result.output) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["run", "--output-dir={}/w", "--filename=/not/there"], "there does not exist", id="no manifest"),
        pytest.param(["renew", "--once", "--output-dir={}/w", "--filename=/not/there"], "does not exist", id="once"),
        pytest.param(
            ["run", "--listen=0.0.0.0:0", "--authorization-file={}/t"], "only on 127.0.0.1", id="not loopback"
        ),
        pytest.param(
            ["sidecar", "--mode=standalone", "--authorization-file={}/not/there"],
            "authorization file",
            id="no authorization file",
        ),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_1(
    arguments: list[str], says: str, request_file: str, tmp_path: Path
) -> None:
    result = run(*(it.format(tmp_path) for it in arguments), KEYTURN_FILENAME=request_file)

    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "ERROR   keyturn: " in result.stderr
    assert says in result.stderr


def test_a_job_without_a_source_fails_in_one_line(request_file: str, tmp_path: Path) -> None:
    result = run("renew", "--once", "-f", request_file, f"--output-dir={tmp_path}/w", f"--sources-dir={tmp_path}/s")

    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "s/license/license_token does not exist" in result.stderr


def test_every_flag_is_an_environment_variable() -> None:
    variables = [option.envvar for command in (run_command, standalone) for option in command.params]

    assert all(str(variable).startswith("KEYTURN_") for variable in variables)
    assert {option.opts[0] for option in renew.params if option.envvar is None} == {"--once"}


def test_the_sidecar_and_the_process_take_the_same_files() -> None:
    flags = [{option.opts[0] for option in command.params} for command in (run_command, standalone)]

    assert flags[0] == flags[1]


def test_the_document_tells_every_flag_of_its_own() -> None:
    document = (Path(__file__).parents[3] / "docs" / "operations" / "configuration.md").read_text()
    rows = document.partition("| flag of `run` |")[2].splitlines()
    told = {flag for row in rows if row.startswith("| `--") for flag in re.findall(r"--?[a-z-]+", row.split("|")[1])}
    shared = {"--config", "--log-level", "--log-format"}

    assert told == {flag for option in run_command.params for flag in option.opts} - shared


def test_nothing_of_kubernetes_is_imported() -> None:
    program = "import sys, keyturn.cli.renew, keyturn.cli.run, keyturn.cli.standalone; print(*sys.modules)"
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    shown = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True)

    assert {name.partition(".")[0] for name in shown.stdout.split()} & {"kopf", "kubernetes"} == set()
    assert "keyturn.controller" not in shown.stdout
