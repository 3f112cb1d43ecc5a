import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from keyturn import __version__
from keyturn.cli import main
from keyturn.cli.operator import operator

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _level_as_before() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


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
        pytest.param("{", "while parsing", id="no YAML"),
        pytest.param("[]", "Expected `object`, got `array`", id="a list"),
    ],
)
def test_bad_settings_are_one_error(content: str, says: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(content)
    result = run("operator", f"--config={config}")

    assert (result.exit_code, f"Invalid value for --config: {config}: " in result.output) == (2, True)
    assert says in result.output
    assert "Traceback" not in result.output


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
