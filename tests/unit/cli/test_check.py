from pathlib import Path

import pytest
from click.testing import Result

from keyturn.api.exchanges.registry import EXCHANGES
from keyturn.cli.documents import dump_document
from tests.support.cases import cases
from tests.support.cli import run_keyturn
from tests.support.dependencies import manifest
from tests.support.pods import container, pod

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
POD_WITH_ENV_FROM = pod(container(envFrom=[{"secretRef": {"name": "acme"}}]), inject=None)
POD_WITH_PROFILE = pod(container("app", "AWS_PROFILE"))


def check(*arguments: str, stdin: str = "") -> Result:
    return run_keyturn("check", *arguments, stdin=stdin)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_every_exchange_is_in_an_example(exchange: str) -> None:
    assert any(f"- {exchange}:" in path.read_text() for path in EXAMPLES), "add a manifest to examples/"


def test_valid_manifests_print_only_the_counts() -> None:
    result = check("-f", "-", stdin=dump_document(manifest()) + dump_document(pod()))

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "0 errors, 0 warnings\n")


def test_pod_is_checked_against_token_requests() -> None:
    result = check("-f", "-", stdin=dump_document(POD_WITH_ENV_FROM) + dump_document(manifest()))

    assert (result.exit_code, result.stderr) == (1, "1 error, 0 warnings\n")
    assert result.stdout.startswith("-, document 1: Pod/app: error: ")
    assert result.stdout.endswith(" (at spec.containers[0].envFrom[0])\n")


def test_files_are_checked_together(tmp_path: Path) -> None:
    pod_file, request_file = str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")
    Path(pod_file).write_text(dump_document(POD_WITH_ENV_FROM))
    Path(request_file).write_text(dump_document(manifest()))

    assert check("-f", pod_file, "-f", request_file).exit_code == 1
    assert check("-f", pod_file, request_file).exit_code == 1
    assert check("-f", pod_file).exit_code == 0


def test_warning_fails_only_with_strict() -> None:
    result = check("-f", "-", stdin=dump_document(POD_WITH_PROFILE))

    assert (result.exit_code, result.stderr) == (0, "0 errors, 1 warning\n")
    assert result.stdout.startswith("-, document 1: Pod/app: warning: container app ")
    assert result.stdout.endswith(" (at spec.containers[0].env)\n")
    assert check("--strict", "-f", "-", stdin=dump_document(POD_WITH_PROFILE)).exit_code == 1


@pytest.mark.parametrize(
    ("body", "line"),
    [
        pytest.param(manifest(exchanges=[]), "exchanges must have at least 1 item (at spec.exchanges)", id="schema"),
        pytest.param(manifest(target={"secretName": "license"}), "", id="a validation rule"),
        pytest.param(
            manifest() | {"apiVersion": "keyturn.dev/v2"},
            'Unsupported value: "keyturn.dev/v2": supported values: "keyturn.dev/v1alpha1" (at apiVersion)',
            id="an unknown version",
        ),
        pytest.param(
            {"kind": "TokenRequest", "metadata": {"name": "acme"}}, "apiVersion is missing", id="no apiVersion"
        ),
        *(
            pytest.param(manifest() | {"metadata": {"name": "acme"} | metadata}, line, id=f"metadata: {metadata}")
            for metadata, line in (
                (
                    {"labels": {"version": 1.5}},
                    "each of labels must be of type string, not number (at metadata.labels[...])",
                ),
                (
                    {"labels": {"team": "a b"}},
                    "each of labels must be empty, or letters, digits, '-', '_' and '.', with a letter",
                ),
                (
                    {"annotations": {"a b": "c"}},
                    "each key of annotations must be 1 to 63 letters, digits, '-', '_' and '.', with a letter",
                ),
                ({"label": {}}, "Object contains unknown field `label` (at metadata)"),
            )
        ),
    ],
)
def test_invalid_token_request_is_an_error(body: dict[str, object], line: str) -> None:
    result = check("-f", "-", stdin=dump_document(body))

    assert (result.exit_code, len(result.stdout.splitlines())) == (1, 1)
    assert f"-, document 1: TokenRequest/acme: error: {line}" in result.stdout


@cases(
    "text, line",
    {
        "a misspelled kind": (
            dump_document(manifest() | {"kind": "Tokenrequest"}),
            'Tokenrequest/acme: error: Unsupported value: "Tokenrequest": supported values: "TokenRequest" (at kind)',
        ),
        "no kind": ("apiVersion: keyturn.dev/v1alpha1\nmetadata: {name: acme}\n", "/acme: error: kind is missing"),
        "an invalid Pod": (
            dump_document(pod(container(env=5))),
            "Pod/app: error: env must be of type array, not integer (at spec.containers[0].env)",
        ),
        "not an object": ("- 1", "error: a manifest must be an object"),
        "not YAML": ("{", "error: not valid YAML: "),
        "an item of a List": (
            dump_document({"kind": "List", "items": [{"kind": "Secret"}, {**POD_WITH_ENV_FROM, "spec": 5}]}),
            "Pod/app items[1]: error: spec must be of type object, not integer (at spec)",
        ),
    },
)
def test_unusable_document_is_an_error(text: str, line: str) -> None:
    result = check("-f", "-", stdin=text)

    assert (result.exit_code, len(result.stdout.splitlines())) == (1, 1)
    assert f"-, document 1: {line}" in result.stdout


@cases(
    "text",
    {
        "Kubernetes' own TokenRequest": "apiVersion: authentication.k8s.io/v1\nkind: TokenRequest\n",
        "an empty document": "null\n",
        "nonsense": "kind: 5\nmetadata: 5\nspec: []\n",
    },
)
def test_other_kinds_are_ignored(text: str) -> None:
    assert check("-f", "-", stdin=text).exit_code == 0


def test_unreadable_document_does_not_hide_other_findings(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(dump_document(POD_WITH_PROFILE) + "---\n{")
    result = check("-f", str(tmp_path / "a.yaml"), "-f", "/not/there", "-f", "-", stdin=dump_document(POD_WITH_PROFILE))

    assert result.stderr == "2 errors, 2 warnings\n"


METADATA = {"uid": "1", "resourceVersion": "2", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 3}


@cases(
    "change",
    {
        "a generated name": {"metadata": {"generateName": "acme-"}},
        "kubectl get output": {"metadata": {"name": "acme", "managedFields": [{"manager": "kubectl"}]} | METADATA},
        "null fields": {"spec": manifest()["spec"] | {"target": None, "renewal": None}},
    },
)
def test_manifest_that_the_api_server_accepts_has_no_finding(change: dict[str, object]) -> None:
    result = check("-f", "-", stdin=dump_document(manifest() | change))

    assert (result.exit_code, result.stdout) == (0, "")


def test_no_file_is_a_usage_error() -> None:
    result = check()

    assert (result.exit_code, "keyturn check -f FILE" in result.stderr) == (2, True)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example_has_no_finding(example: Path) -> None:
    assert check("--strict", "-f", str(example)).stdout == ""
