"""keyturn inject."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from keyturn import __version__
from keyturn.cli import main
from keyturn.cli.documents import written
from keyturn.core.pods.injection import SidecarConfig, inject_sidecar
from tests.support.pods import container, pod

OTHER = "# a comment\napiVersion: v1\nkind: ConfigMap  # kept\nmetadata: {name: x}\n"


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, ["inject", *arguments], input=stdin)


def test_the_same_as_injected() -> None:
    result = run("-f", "-", stdin=written(pod()))

    assert result.exit_code == 0
    assert yaml.safe_load(result.stdout) == inject_sidecar(pod(), SidecarConfig(f"keyturn:{__version__}"))


def test_image_and_port() -> None:
    result = run("-f", "-", "--image=blue:1", "--port=7000", stdin=written(pod()))

    assert yaml.safe_load(result.stdout) == inject_sidecar(pod(), SidecarConfig("blue:1", port=7000))


def test_a_service_named_keyturn_does_not_matter() -> None:
    result = CliRunner(env={"KEYTURN_PORT": "tcp://10.0.0.1:80"}).invoke(main, ["inject", "-f", "-"], input="")

    assert (result.exit_code, result.stdout) == (0, "")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(OTHER, id="alone"),
        pytest.param(f"{OTHER}---\n{OTHER}", id="twice"),
        pytest.param(written(pod(inject=None)), id="a pod that does not ask"),
        pytest.param("- 1\n", id="no manifest"),
    ],
)
def test_other_documents_stay_as_they_are(text: str) -> None:
    assert run("-f", "-", stdin=text).stdout == text


def test_among_others(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(f"{OTHER}{written(pod())}---\n{OTHER.rstrip()}")
    first, second, third = run("-f", str(tmp_path / "all.yaml")).stdout.split("---\n")

    assert (first, third) == (OTHER, OTHER)
    assert yaml.safe_load(second)["spec"]["initContainers"][0]["name"] == "keyturn"


def test_its_output_is_left_alone() -> None:
    once = run("-f", "-", stdin=written(pod())).stdout

    assert run("-f", "-", stdin=once).stdout == once


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("{", "-, document 1: error: not valid YAML: ", id="no YAML"),
        pytest.param(
            written(pod(container(env=5))),
            "-, document 1: Expected `array`, got `int` (at spec.containers[0].env)",
            id="no pod",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_printed(text: str, says: str) -> None:
    result = run("-f", "-", stdin=text)

    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
    assert says in result.stderr
