from pathlib import Path

import pytest
import yaml
from click.testing import Result

from keyturn import __version__
from keyturn.cli.documents import dump_document
from keyturn.core.pods.injection import SidecarConfig, inject_sidecar
from tests.support.cli import run_keyturn
from tests.support.pods import container, pod

ROOT = Path(__file__).parents[3]
OTHER = "# a comment\napiVersion: v1\nkind: ConfigMap  # kept\nmetadata: {name: x}\n"


def inject(*arguments: str, stdin: str = "", **environment: str) -> Result:
    return run_keyturn("inject", *arguments, stdin=stdin, **environment)


def test_crd_prints_the_generated_file() -> None:
    assert run_keyturn("crd").output == (ROOT / "crds" / "keyturn.dev_tokenrequests.yaml").read_text()


def test_sidecar_is_added_with_the_default_image() -> None:
    result = inject("-f", "-", stdin=dump_document(pod()))

    assert result.exit_code == 0
    assert yaml.safe_load(result.stdout) == inject_sidecar(pod(), SidecarConfig(f"keyturn-sidecar:{__version__}"))


def test_image_and_port_are_options() -> None:
    result = inject("-f", "-", "--image=blue:1", "--port=7000", stdin=dump_document(pod()))

    assert yaml.safe_load(result.stdout) == inject_sidecar(pod(), SidecarConfig("blue:1", port=7000))


def test_variable_of_a_service_named_keyturn_is_ignored() -> None:
    result = inject("-f", "-", KEYTURN_PORT="tcp://10.0.0.1:80")

    assert (result.exit_code, result.stdout) == (0, "")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(OTHER, id="one document"),
        pytest.param(f"{OTHER}---\n{OTHER}", id="two documents"),
        pytest.param(dump_document(pod(inject=None)), id="a Pod without the annotation"),
        pytest.param("- 1\n", id="not a manifest"),
    ],
)
def test_other_documents_are_not_changed(text: str) -> None:
    assert inject("-f", "-", stdin=text).stdout == text


def test_only_the_pod_of_a_file_is_changed(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(f"{OTHER}{dump_document(pod())}---\n{OTHER.rstrip()}")
    first, second, third = inject("-f", str(tmp_path / "all.yaml")).stdout.split("---\n")

    assert (first, third) == (OTHER, OTHER)
    assert yaml.safe_load(second)["spec"]["initContainers"][0]["name"] == "keyturn"


def test_inject_is_idempotent() -> None:
    once = inject("-f", "-", stdin=dump_document(pod())).stdout

    assert inject("-f", "-", stdin=once).stdout == once


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "-, document 1: error: not valid YAML: ", id="not YAML"),
        pytest.param(
            dump_document(pod(container(env=5))),
            "-, document 1: env must be a list, but is of type integer (at spec.containers[0].env)",
            id="not a Pod",
        ),
    ],
)
def test_error_is_one_line_without_output(text: str, message: str) -> None:
    result = inject("-f", "-", stdin=text)

    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
    assert message in result.stderr
