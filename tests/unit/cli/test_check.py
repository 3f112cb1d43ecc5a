"""keyturn check."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from keyturn.cli import main
from keyturn.cli.documents import written
from tests.support.dependencies import manifest
from tests.support.pods import container, pod

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
TRAPPED = pod(container(envFrom=[{"secretRef": {"name": "acme"}}]), inject=None)
WARNED = pod(container("app", "AWS_PROFILE"))


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, ["check", *arguments], input=stdin)


def test_nothing_to_tell() -> None:
    result = run("-f", "-", stdin=written(manifest()) + written(pod()))

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "0 errors, 0 warnings\n")


def test_a_pod_and_the_token_request_that_renews_its_secret() -> None:
    result = run("-f", "-", stdin=written(TRAPPED) + written(manifest()))

    assert result.exit_code == 1
    assert result.stdout == (
        "-, document 1: Pod/app: error: variables are not updated after a renewal: mount Secret acme as a volume"
        " (at spec.containers[0].envFrom[0])\n"
    )
    assert result.stderr == "1 error, 0 warnings\n"


def test_in_two_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(written(TRAPPED))
    (tmp_path / "b.yaml").write_text(written(manifest()))

    assert run("-f", str(tmp_path / "a.yaml"), "-f", str(tmp_path / "b.yaml")).exit_code == 1
    assert run("-f", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")).exit_code == 1
    assert run("-f", str(tmp_path / "a.yaml")).exit_code == 0


def test_a_warning_is_no_error_unless_asked() -> None:
    result = run("-f", "-", stdin=written(WARNED))

    assert (result.exit_code, result.stderr) == (0, "0 errors, 1 warning\n")
    assert result.stdout == (
        "-, document 1: Pod/app: warning: container app has AWS_PROFILE, which SDKs read instead of the sidecar: "
        "the container keeps its own credentials (at spec.containers[0].env)\n"
    )
    assert run("--strict", "-f", "-", stdin=written(WARNED)).exit_code == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param(
            written(manifest(exchanges=[])),
            "-, document 1: TokenRequest/acme: error: Expected `array` of length >= 1 (at spec.exchanges)",
            id="the schema",
        ),
        pytest.param(
            written(manifest(target={"secretName": "license"})),
            "-, document 1: TokenRequest/acme: error: ",
            id="a rule: the target is a source",
        ),
        pytest.param(
            written(
                manifest(
                    exchanges=[
                        {"licenseManagerGetAccessToken": {}},
                        {
                            "assumeRoleWithWebIdentity": {
                                "roleArn": "arn:aws:iam::111122223333:role/a",
                                "durationSeconds": 60,
                            }
                        },
                    ]
                )
            ),
            "-, document 1: TokenRequest/acme: error: Expected `int` >= 900 (at spec.exchanges[1]",
            id="AWS's limit",
        ),
        pytest.param(
            written({**manifest(), "apiVersion": "keyturn.dev/v2"}),
            "-, document 1: TokenRequest/acme: error: Invalid enum value 'keyturn.dev/v2' (at apiVersion)",
            id="a version that is not there",
        ),
        *(
            pytest.param(
                written({**manifest(), key: value}),
                f"-, document 1: {kind}/acme: error: Invalid enum value '{value}' (at {key})",
                id=f"a slip in {key}: {value}",
            )
            for kind, key, value in (
                ("Tokenrequest", "kind", "Tokenrequest"),
                ("TokenRequest", "apiVersion", "keyturn.io/v1alpha1"),
                ("TokenRequest", "apiVersion", "Keyturn.dev/v1alpha1"),
            )
        ),
        pytest.param(
            "apiVersion: keyturn.dev/v1alpha1\nmetadata: {name: acme}\n",
            "-, document 1: /acme: error: kind is missing",
            id="no kind",
        ),
        pytest.param(
            "kind: TokenRequest\nmetadata: {name: acme}\n",
            "-, document 1: TokenRequest/acme: error: apiVersion is missing",
            id="no version",
        ),
        *(
            pytest.param(
                written(manifest() | {"metadata": {"name": "acme"} | metadata}),
                f"-, document 1: TokenRequest/acme: error: {says}",
                id=f"metadata: {metadata}",
            )
            for metadata, says in (
                ({"labels": {"version": 1.5}}, "Expected `str`, got `float` (at metadata.labels[...])"),
                ({"labels": {"team": "a b"}}, "Expected `str` matching regex"),
                ({"annotations": {"a b": "c"}}, "Expected `str` matching regex"),
                ({"label": {}}, "Object contains unknown field `label` (at metadata)"),
            )
        ),
        pytest.param(
            written(pod(container(env=5))),
            "-, document 1: Pod/app: error: Expected `array`, got `int` (at spec.containers[0].env)",
            id="no pod",
        ),
        pytest.param("- 1", "-, document 1: error: a manifest must be an object", id="no object"),
        pytest.param("{", "-, document 1: error: not valid YAML: ", id="no YAML"),
        pytest.param(
            written({"kind": "List", "items": [{"kind": "Secret"}, {**TRAPPED, "spec": 5}]}),
            "-, document 1: Pod/app items[1]: error: Expected `object`, got `int` (at spec)",
            id="in a list",
        ),
    ],
)
def test_an_error(text: str, line: str) -> None:
    result = run("-f", "-", stdin=text)

    assert result.exit_code == 1
    assert line in result.stdout
    assert len(result.stdout.splitlines()) == 1
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("apiVersion: authentication.k8s.io/v1\nkind: TokenRequest\n", id="Kubernetes' own TokenRequest"),
        pytest.param("null\n", id="nothing"),
        pytest.param("kind: 5\nmetadata: 5\nspec: []\n", id="nonsense"),
    ],
)
def test_what_is_not_ours_is_not_looked_at(text: str) -> None:
    assert run("-f", "-", stdin=text).exit_code == 0


def test_the_rest_of_a_file_with_a_bad_document_is_checked_and_other_files_are(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(written(WARNED) + "---\n{")
    result = run("-f", str(tmp_path / "a.yaml"), "-f", "/not/there", "-f", "-", stdin=written(WARNED))

    assert result.stderr == "2 errors, 2 warnings\n"


def test_a_name_may_be_left_to_the_api_server() -> None:
    body = manifest() | {"metadata": {"generateName": "acme-"}}

    assert run("-f", "-", stdin=written(body)).stdout == ""


def test_what_kubectl_shows_may_be_applied_again() -> None:
    about = {"uid": "1", "resourceVersion": "2", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 3}
    body = manifest() | {"metadata": {"name": "acme", "managedFields": [{"manager": "kubectl"}]} | about}

    assert run("-f", "-", stdin=written(body)).stdout == ""


def test_a_field_that_is_null_is_not_there_as_for_the_api_server() -> None:
    body = manifest()
    body["spec"]["target"] = None

    assert run("-f", "-", stdin=written(body)).exit_code == 0


def test_without_a_file_it_says_what_to_give() -> None:
    result = run()

    assert (result.exit_code, "keyturn check -f FILE" in result.stderr) == (2, True)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_free_of_findings(example: Path) -> None:
    assert run("--strict", "-f", str(example)).stdout == ""


def test_it_starts_without_what_talks_to_aws_or_a_cluster() -> None:
    heavy = "{'boto3', 'botocore', 'kopf', 'kubernetes', 'aiohttp', 'asyncio'}"
    code = f"import sys, keyturn.cli.check, keyturn.cli.inject; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"


def test_a_field_without_a_value_is_none_as_the_api_server_has_it() -> None:
    body = manifest()
    result = run("-f", "-", stdin=written(body | {"spec": body["spec"] | {"target": None, "renewal": None}}))

    assert (result.exit_code, result.stderr) == (0, "0 errors, 0 warnings\n")
