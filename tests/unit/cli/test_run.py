from pathlib import Path

import pytest
import yaml

from keyturn.cli.run import run, standalone
from tests.support.cases import cases
from tests.support.cli import run_keyturn
from tests.support.dependencies import manifest


@pytest.fixture
def manifest_file(tmp_path: Path) -> str:
    (tmp_path / "request.yaml").write_text(yaml.safe_dump(manifest()))
    return str(tmp_path / "request.yaml")


@cases(
    "arguments, message",
    {
        "no manifest": ("run --output-dir={}/w --filename=/not/there", "does not exist"),
        "once, no manifest": ("run --once --output-dir={}/w --filename=/not/there", "does not exist"),
        "not loopback": ("run --listen=0.0.0.0:0 --authorization-file={}/t", "127.0.0.1"),
        "no authorization file": ("sidecar --mode=standalone --authorization-file={}/not/there", "authorization"),
        "no source": ("run --once --output-dir={0}/w --sources-dir={0}/s", "license_token does not exist"),
    },
)
def test_run_reports_a_startup_failure_in_one_line(
    arguments: str, message: str, manifest_file: str, tmp_path: Path
) -> None:
    result = run_keyturn(*arguments.format(tmp_path).split(), KEYTURN_FILENAME=manifest_file)

    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "ERROR   keyturn: " in result.stderr
    assert message in result.stderr


def test_run_and_standalone_sidecar_have_the_same_flags() -> None:
    flags = [{option.opts[0] for option in command.params} for command in (run, standalone)]

    assert flags[0] - {"--once"} == flags[1]
