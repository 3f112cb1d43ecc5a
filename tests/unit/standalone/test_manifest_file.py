import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyturn.api.token_request import parse
from keyturn.core.errors import RefusedError
from keyturn.standalone.atomic_dir import Folder
from keyturn.standalone.manifest_file import ManifestFile
from tests.support.dependencies import DAY, NOW, manifest, request

EXAMPLES = Path(__file__).parents[3] / "examples"
GOOD = {key: value for key, value in manifest().items() if key != "metadata"} | {"metadata": {"name": "acme"}}
BOMB = "a: &a [x,x]\nb: &b [*a,*a]\nkind: TokenRequest\nspec: [*b,*b]\n"


def written(path: Path, body: Any) -> ManifestFile:
    """A manifest in a file, as text or as what becomes YAML."""
    path.write_text(body if isinstance(body, str) else yaml.safe_dump(body))
    return ManifestFile(path, NOW)


def test_it_is_what_the_api_server_would_have(tmp_path: Path) -> None:
    body = manifest()

    assert written(tmp_path / "r.yaml", body).read() == replace(parse(body), created_at=NOW)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_read(path: Path, tmp_path: Path) -> None:
    bodies = [body for body in yaml.safe_load_all(path.read_text()) if body["kind"] == "TokenRequest"]
    for body in bodies:
        assert written(tmp_path / "r.yaml", body).read().name == body["metadata"]["name"]


def test_without_a_uid_it_has_a_stable_one(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    one, again = written(path, GOOD).read(), written(path, GOOD).read()
    named = written(path, GOOD | {"metadata": {"name": "acme", "namespace": "default"}}).read()
    elsewhere = written(path, GOOD | {"metadata": {"name": "acme", "namespace": "billing"}}).read()

    assert one.uid == again.uid == named.uid != elsewhere.uid
    assert len(one.uid) == 36
    assert one.namespace == "default"


def test_it_is_as_old_as_it_says_or_as_the_process(tmp_path: Path) -> None:
    path, then = tmp_path / "r.yaml", NOW - DAY
    told = GOOD | {"metadata": {"name": "acme", "creationTimestamp": then.isoformat()}}

    assert (written(path, GOOD).read().created_at, written(path, told).read().created_at) == (NOW, then)


def test_fields_without_a_value_are_dropped_as_the_api_server_does(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    nulls = GOOD["spec"] | {"target": None, "renewal": {"renewBefore": None}}

    assert written(path, GOOD | {"spec": nulls}).read().spec.target is None


@pytest.mark.parametrize(
    "plain",
    [pytest.param("2026-01-02T03:04:05Z", id="a time"), pytest.param("12:30", id="what YAML counts by sixties")],
)
def test_what_kubernetes_takes_for_text_is_text(plain: str, tmp_path: Path) -> None:
    text = yaml.safe_dump(GOOD).replace(
        "  name: acme", f"  name: acme\n  annotations: {{keyturn.dev/renew-requested-at: {plain}}}"
    )

    assert written(tmp_path / "r.yaml", text).read().renew_requested == plain


def spec(**fields: Any) -> dict[str, Any]:
    return GOOD | {"spec": GOOD["spec"] | fields}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param("", "r.yaml is empty", id="an empty file"),
        pytest.param("# nothing\n", "it must hold one TokenRequest, and it holds 0 documents", id="only a comment"),
        pytest.param(f"{yaml.safe_dump(GOOD)}---\n{yaml.safe_dump(GOOD)}", "holds 2 documents", id="two documents"),
        pytest.param("[]", "holds nothing with a kind", id="a list"),
        pytest.param("text", "holds nothing with a kind", id="text"),
        pytest.param(GOOD | {"kind": "Secret"}, "must hold a TokenRequest, and it holds a 'Secret'", id="another kind"),
        pytest.param(GOOD | {"apiVersion": "keyturn.dev/v1"}, "(at apiVersion)", id="another version"),
        pytest.param({"kind": "TokenRequest"}, "missing required field", id="nothing but a kind"),
        pytest.param(GOOD | {"spec": None}, "missing required field `spec`", id="no spec"),
        pytest.param(GOOD | {"metadata": {}}, "missing required field `name` (at metadata)", id="no name"),
        pytest.param(GOOD | {"metadata": "acme"}, "(at metadata)", id="metadata that is text"),
        pytest.param(GOOD | {"metadata": {"name": "../acme"}}, "(at metadata.name)", id="a name that is a path"),
        pytest.param(spec(exchange=[]), "unknown field `exchange` (at spec)", id="a typo"),
        pytest.param(spec(renewal={"renewBefore": "soon"}), "(at spec.renewal.renewBefore)", id="a bad value"),
        pytest.param(spec(region=7), "Expected `str | null`, got `int` (at spec.region)", id="a number"),
        pytest.param(GOOD | {1: 2}, "r.yaml: ", id="a key that is a number"),
        pytest.param("kind: TokenRequest\nkind: TokenRequest\n", "duplicate key 'kind'", id="a key twice"),
        pytest.param(BOMB, "aliases (*) are not allowed here", id="a bomb"),
        pytest.param("{", "not valid YAML: expected the node content", id="no YAML"),
        pytest.param("a: b: c", "(line 1, column 5)", id="no YAML, with its place"),
        pytest.param("kind: !!python/name:os.system x", "could not determine a constructor", id="a tag"),
        pytest.param(f"kind: {'[' * 5000}", "nested too deep", id="nested deep"),
        pytest.param("kind: !!int ''", "the value is not a valid !!int", id="a number without digits"),
        pytest.param("kind: !!bool x", "the value is not a valid !!bool", id="a boolean that is neither"),
        pytest.param("kind: !!timestamp x", "!!timestamp or is too long (line 1, column 7)", id="no time"),
        pytest.param(f"kind: {'9' * 5000}", "!!int or is too long", id="a number of 5000 digits"),
        pytest.param(GOOD | {"metadata": {"name": "\ud800"}}, "the value is not a valid !!str", id="half a surrogate"),
        pytest.param(GOOD | {"a\nb\x1b[31m": 1}, r"field `a\x0ab\x1b[31m`", id="a name with control characters"),
        pytest.param("kind: \x00", "not valid YAML: ", id="a control character"),
    ],
)
def test_what_is_no_request_is_one_line(tmp_path: Path, body: Any, says: str) -> None:
    with pytest.raises(RefusedError) as refused:
        written(tmp_path / "r.yaml", body).read()

    assert refused.value.reason == "InvalidSpec"
    assert says in refused.value.message
    assert refused.value.message.startswith(str(tmp_path / "r.yaml"))
    assert len(refused.value.message.splitlines()) == 1


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"r\.yaml does not exist"):
        ManifestFile(tmp_path / "r.yaml", NOW).read()


def test_a_change_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    file = written(path, GOOD)
    file.read()
    assert not file.has_changed()
    path.unlink()
    assert file.has_changed()
    with pytest.raises(RefusedError):
        file.read()
    assert not file.has_changed()
    written(path, manifest())

    assert file.has_changed()
    assert file.read() == replace(request(), created_at=NOW)


def test_a_mounted_config_map_is_followed(tmp_path: Path) -> None:
    mounted = Folder(tmp_path)
    mounted.write({"r.yaml": yaml.safe_dump(GOOD)})
    file = ManifestFile(tmp_path / "r.yaml", NOW)
    assert file.read().namespace == "default"
    mounted.write({"r.yaml": yaml.safe_dump(manifest())})

    assert file.has_changed()
    assert file.read().namespace == "billing"


def test_many_fields_are_no_work(tmp_path: Path) -> None:
    many = yaml.safe_dump(GOOD) + "".join(f"k{number}: 1\n" for number in range(12_000))
    started = time.thread_time()
    with pytest.raises(RefusedError, match="unknown field `k0`"):
        written(tmp_path / "r.yaml", many).read()

    # To look for each name among all of them took longer by the square of their number: 7 s here, and 0.8 s now.
    assert time.thread_time() - started < 4
