from pathlib import Path

import pytest
import yaml
from click.testing import Result

from keyturn.api.exchanges.registry import EXCHANGES
from keyturn.cli.documents import dump_document, read_documents
from tests.support.cases import cases
from tests.support.cli import run_keyturn
from tests.support.dependencies import manifest
from tests.support.json_schema import load_valid
from tests.support.pods import container, pod

ROOT = Path(__file__).parents[4]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
POD_WITH_ENV_FROM = pod(container(envFrom=[{"secretRef": {"name": "acme"}}]), inject=None)
POD_WITH_PROFILE = pod(container("app", "AWS_PROFILE"))


def check(*arguments: str, stdin: str = "") -> Result:
    return run_keyturn("check", *arguments, stdin=stdin)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_every_exchange_is_in_an_example(exchange: str) -> None:
    assert any(f"- {exchange}:" in path.read_text() for path in EXAMPLES), "add a manifest to examples/"


def test_examples_can_be_applied_together() -> None:
    documents = [document.body for path in EXAMPLES for document in read_documents(str(path))]
    by_name = {(body["kind"], body["metadata"]["name"]): body for body in documents}

    assert [
        body["metadata"]["name"] for body in documents if by_name[body["kind"], body["metadata"]["name"]] != body
    ] == []


def test_valid_manifests_print_only_the_counts() -> None:
    result = check("-f", "-", stdin=dump_document(manifest()) + dump_document(pod()))

    assert (result.exit_code, result.stdout, result.stderr) == (
        0,
        "",
        "1 TokenRequest, 1 Pod checked: 0 errors, 0 warnings\n",
    )


def test_pod_is_checked_against_token_requests() -> None:
    result = check("-f", "-", stdin=dump_document(POD_WITH_ENV_FROM) + dump_document(manifest()))

    assert (result.exit_code, result.stderr) == (1, "1 TokenRequest, 1 Pod checked: 1 error, 0 warnings\n")
    assert result.stdout.startswith("-:11:7: error: Pod/app: ")
    assert result.stdout.endswith(" (at spec.containers[0].envFrom[0])\n")


def test_directory_is_checked_like_its_files(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "notes.txt"):
        (tmp_path / name).write_text("{}" if name.endswith("txt") else dump_document(manifest(name=name)))
    (tmp_path / "empty").mkdir()

    assert check(str(tmp_path)).stderr == "2 TokenRequests, 0 Pods checked: 0 errors, 0 warnings\n"
    empty = check(str(tmp_path / "empty"))
    assert (empty.exit_code, "contains no .json, .yaml or .yml file" in empty.stderr) == (2, True)


def test_files_are_checked_together(tmp_path: Path) -> None:
    pod_file, request_file = str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")
    Path(pod_file).write_text(dump_document(POD_WITH_ENV_FROM))
    Path(request_file).write_text(dump_document(manifest()))

    assert check("-f", pod_file, "-f", request_file).exit_code == 1
    assert check("-f", pod_file, request_file).exit_code == 1
    assert check("-f", pod_file).exit_code == 0


def test_warning_fails_only_with_strict() -> None:
    result = check("-f", "-", stdin=dump_document(POD_WITH_PROFILE))

    assert (result.exit_code, result.stderr) == (0, "0 TokenRequests, 1 Pod checked: 0 errors, 1 warning\n")
    assert result.stdout.startswith("-:12:5: warning: Pod/app: container app ")
    assert result.stdout.endswith(" (at spec.containers[0].env)\n")
    assert check("--strict", "-f", "-", stdin=dump_document(POD_WITH_PROFILE)).exit_code == 1


def _template(key: str) -> dict[str, object]:
    return {"template": {"key": key, "text": "{{ accessKeyId }}" + "\U0001f600" * 16000}}


@cases(
    "text, line",
    {
        "a value": (
            dump_document(manifest(exchanges=[])),
            "16:3: error: TokenRequest/acme: exchanges must have at least",
        ),
        "a rule of the whole": (
            dump_document(manifest(target={"secretName": "license"})),
            "2:1: error: TokenRequest/acme: the target must not be a Secret that the spec reads or stores a token in",
        ),
        "an unknown version": (
            dump_document(manifest() | {"apiVersion": "keyturn.dev/v2"}),
            (
                '2:1: error: TokenRequest/acme: Unsupported value: "keyturn.dev/v2": supported values: '
                '"keyturn.dev/v1alpha1" (at apiVersion)'
            ),
        ),
        "a misspelled kind": (
            dump_document(manifest() | {"kind": "Tokenrequest"}),
            '3:1: error: Tokenrequest/acme: Unsupported value: "Tokenrequest": supported values: "TokenRequest"',
        ),
        "no name of the metadata": (
            dump_document(manifest() | {"metadata": {"labels": {}}}),
            "4:1: error: TokenRequest: required field `name` is missing (at metadata)",
        ),
        "a field of the metadata": (
            dump_document(manifest() | {"metadata": {"name": "acme", "label": {}}}),
            "6:3: error: TokenRequest/acme: unknown field `label`: did you mean `labels`? (at metadata.label)",
        ),
        "a spec that is too large": (
            dump_document(manifest(target={"formats": [_template(key) for key in "abcd"]})),
            "9:1: error: TokenRequest/acme: the spec needs",
        ),
        "not an object": ("a: 1\n---\n- 1", "2:1: error: a manifest must be an object"),
        "not YAML": ("a: 1\n---\nb: {", "3:5: error: not valid YAML: "),
        "an item of a List": (
            dump_document({"kind": "List", "items": [{"kind": "Secret"}, {**POD_WITH_ENV_FROM, "spec": 5}]}),
            "9:3: error: Pod/app: spec must be of type object, not integer (at items[1].spec)",
        ),
    },
)
def test_error_has_its_position(text: str, line: str) -> None:
    result = check("-f", "-", stdin=text)

    assert (result.exit_code, len(result.stdout.splitlines())) == (1, 1)
    assert result.stdout.startswith(f"-:{line}")


def test_all_errors_of_all_documents_are_reported() -> None:
    result = check("-f", "-", stdin=MISTAKES)

    assert result.stdout.splitlines() == [
        "-:2:1: error: TokenRequest/acme: required field `apiVersion` is missing",
        "-:5:20: error: TokenRequest/acme: each of labels must be text: put quotes around 1.50 (at metadata.labels.v)",
        "-:8:3: error: TokenRequest/acme: region must be text: put quotes around 0x10 (at spec.region)",
        "-:9:3: error: TokenRequest/acme: unknown field `exchange`: did you mean `exchanges`? (at spec.exchange)",
        "-:20:9: error: Pod/app: value must be text: put quotes around the value (at spec.containers[0].env[0].value)",
        (
            "-:21:7: error: Pod/app: volumeMounts must be a list, but is of type string"
            " (at spec.containers[0].volumeMounts)"
        ),
    ]
    assert result.stderr == "1 TokenRequest, 1 Pod checked: 6 errors, 0 warnings\n"


MISTAKES = """# No version.
kind: TokenRequest
metadata:
  name: acme
  labels: {app: a, v: 1.50}
spec:
  source: {token: {secretKeyRef: {name: a, key: b}}}
  region: 0x10
  exchange:
    - licenseManagerGetAccessToken: {}
# The next document has a comment.
--- # and another one
apiVersion: v1
kind: Pod
metadata: {name: app}
spec:
  containers:
    - name: app
      env:
      - value: 5
      volumeMounts: all
"""


def test_json_output_has_the_documented_fields() -> None:
    result = check("-o", "json", "-f", "-", stdin=dump_document(POD_WITH_PROFILE) + dump_document(manifest(region=7)))
    document = load_valid("check", result.stdout)

    assert {key: document[key] for key in document if key != "findings"} == {
        "tokenRequests": 1, "pods": 1, "errors": 1, "warnings": 1
    }  # fmt: skip
    assert [list(finding) for finding in document["findings"]] == [
        ["location", "line", "column", "name", "path", "severity", "message"]
    ] * 2
    assert document["findings"][1] == {
        "location": "-",
        "line": 29,
        "column": 3,
        "name": "TokenRequest/acme",
        "path": "spec.region",
        "severity": "error",
        "message": "region must be text: put quotes around 7",
    }
    assert (result.exit_code, result.stderr) == (1, "")


@cases(
    "audience, value",
    {
        "plain": ("https://api.example/", "https://api.example/"),
        "in quotes": ('"https://api.example/"', "https://api.example/"),
        "a long value": ("x" * 41, "the value"),
    },
)
def test_value_that_should_be_a_list_is_in_the_hint(audience: str, value: str) -> None:
    text = dump_document(manifest(exchanges=[{"oauthToken": {"audience": "AUDIENCE"}}]))
    result = check("-f", "-", stdin=text.replace("AUDIENCE", audience))

    assert f"error: TokenRequest/acme: audience must be a list: put brackets around {value} (at " in result.stdout


def test_github_output_is_workflow_commands(tmp_path: Path) -> None:
    file = tmp_path / "a,b.yaml"
    file.write_text(dump_document(manifest() | {"metadata": {"name": "100%", "label": {}}}))
    result = check("-o", "github", "-f", str(file), "-f", "/not/there")

    start, end = f"::error file={tmp_path}/a%2Cb.yaml,line=", "title=keyturn check::TokenRequest/100%25: "
    first, second, third = result.stdout.splitlines()
    assert first.startswith(f"{start}5,col=3,{end}name must be lower-case letters, digits, ")
    assert second == f"{start}6,col=3,{end}unknown field `label`: did you mean `labels`? (at metadata.label)"
    assert third == "::error file=/not/there,title=keyturn check::No such file or directory"
    assert result.stderr == "1 TokenRequest, 0 Pods checked: 3 errors, 0 warnings\n"


def test_pre_commit_hook_checks_the_files_together() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    program, *arguments = hook["entry"].split()

    assert (program, hook["require_serial"]) == ("keyturn", True)
    assert run_keyturn(*arguments, *map(str, EXAMPLES)).exit_code == 0


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

    assert result.stderr == "0 TokenRequests, 2 Pods checked: 2 errors, 2 warnings\n"


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
